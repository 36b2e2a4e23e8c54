"""Data sets as the DICOM JSON Model, long binary values by reference.

pydicom writes each value. This walks the sequences, because a reference must say where
its element is, and leaves out what no JSON can say: a peer's data set may hold
anything, and one broken value must not hide the rest.
"""

import math
from collections.abc import Callable
from typing import Any

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

__all__ = ["JsonModel", "element_at", "tag_path", "to_json_model"]

JsonModel = dict[str, dict[str, Any]]
"""Tags as eight hexadecimal digits to `{"vr": …, "Value": […]}`."""

_CHARACTER_SET = 0x00080005
_UTF_8 = "ISO_IR 192"
_BINARY_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN", "OB or OW"})
_GROUP_LENGTH = 0x0000FFFF

BulkDataUri = Callable[[str], str]
"""From the path of an element to its URI."""


def tag_path(parents: str, tag: int) -> str:
    """Name an element within its data set: `00081140/1/00081155`, items from 1."""
    return f"{parents}{tag:08X}"


def to_json_model(
    dataset: Dataset, *, bulk_data_uri: BulkDataUri | None, threshold: int
) -> JsonModel:
    """Write a data set as the DICOM JSON Model.

    Parameters
    ----------
    dataset
        Without its pixel data.
    bulk_data_uri
        Names the URI of an element that is not written inline; None leaves long binary
        values out.
    threshold
        Longest binary value that is written inline, in bytes.

    Source
    ------
    PS3.18 F.2.
    """
    return _Writer(bulk_data_uri, threshold).data_set(dataset, "")


class _Writer:
    def __init__(self, bulk_data_uri: BulkDataUri | None, threshold: int) -> None:
        self._uri = bulk_data_uri
        self._threshold = threshold

    def data_set(self, dataset: Dataset, parents: str) -> JsonModel:
        model: JsonModel = {}
        for tag in sorted(dataset.keys()):
            if tag & _GROUP_LENGTH == 0:  # PS3.18 F.2.2: group lengths are left out
                continue
            # Whatever pydicom raises for a broken value, the others can be shown.
            try:
                written = self._element(dataset, tag, parents)
            except Exception:  # noqa: BLE001, S112
                continue
            if written is not None:
                model[f"{tag:08X}"] = written
        return model

    def _element(
        self, dataset: Dataset, tag: BaseTag, parents: str
    ) -> dict[str, Any] | None:
        if tag == _CHARACTER_SET:
            # JSON is UTF-8, whatever the data set was (PS3.18 F.2.1.1.2).
            return {"vr": "CS", "Value": [_UTF_8]}
        raw = dataset.get_item(tag, keep_deferred=True)
        path = tag_path(parents, tag)
        if _left_on_disk(raw) and (raw.VR or "UN") in _BINARY_VRS:
            return self._by_reference(raw.VR or "UN", path)
        element = dataset[tag]
        if element.VR == "SQ":
            return {
                "vr": "SQ",
                "Value": [
                    self.data_set(item, f"{path}/{number}/")
                    for number, item in enumerate(element.value or (), start=1)
                ],
            }
        if element.VR in _BINARY_VRS and _size(element) > self._threshold:
            return self._by_reference(element.VR.split(" ")[-1], path)
        return _finite(element.to_json_dict(None, 0))

    def _by_reference(self, vr: str, path: str) -> dict[str, Any] | None:
        return None if self._uri is None else {"vr": vr, "BulkDataURI": self._uri(path)}


def _left_on_disk(element: object) -> bool:
    return (
        isinstance(element, RawDataElement)
        and element.value is None
        and element.length > 0
    )


def _size(element: DataElement) -> int:
    return len(element.value) if isinstance(element.value, bytes) else 0


def _finite(written: dict[str, Any]) -> dict[str, Any]:
    values = written.get("Value")
    if values and any(
        isinstance(one, float) and not math.isfinite(one) for one in values
    ):
        # JSON has no such numbers; null keeps the place of a value (PS3.18 F.2.5).
        written["Value"] = [
            None if isinstance(one, float) and not math.isfinite(one) else one
            for one in values
        ]
    return written


def element_at(dataset: Dataset, path: str) -> bytes | None:
    """Return the binary value that `tag_path` named, or None if there is none."""
    parts = path.split("/")
    try:
        for tag, number in zip(parts[:-1:2], parts[1:-1:2], strict=True):
            dataset = dataset[int(tag, 16)].value[int(number) - 1]
        value = dataset[int(parts[-1], 16)].value
    except Exception:  # noqa: BLE001 - a path of a client's own making
        return None
    return value if isinstance(value, bytes) else None
