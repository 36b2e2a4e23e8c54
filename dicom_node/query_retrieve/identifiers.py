"""Identifiers: a peer's keys read, matches and failed UIDs written."""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.multival import MultiValue
from pydicom.tag import Tag
from pynetdicom.dsutils import encode

from core.errors import InvalidInstance, SenderError
from dicom_node.element_walk import Encoding, walk
from dicom_node.query.attributes import Level, Tags
from dicom_node.query.json_model import JsonModel
from dicom_node.query.matching import Key, compile_key
from dicom_node.query_retrieve.models import Root

__all__ = [
    "Identifier",
    "WrongIdentifier",
    "read_identifier",
    "write_data_set",
    "write_match",
]

_UTF_8 = "ISO_IR 192"
_NOT_KEYS = frozenset(
    {Tags.QUERY_RETRIEVE_LEVEL, Tags.SPECIFIC_CHARACTER_SET, 0x00080201}
)
_PATIENT = "PATIENT"


class WrongIdentifier(SenderError):
    """An identifier that does not fit its SOP class or cannot be read."""


@dataclass(frozen=True)
class Identifier:
    """What a C-FIND-RQ, C-GET-RQ or C-MOVE-RQ asks for."""

    level: Level
    of_patients: bool
    """Whether patients are asked for, not their studies."""
    keys: tuple[Key, ...]
    returned: frozenset[int]
    """Attributes that are asked back, those that match included."""


def read_identifier(data: bytes, transfer_syntax_uid: str, root: Root) -> Identifier:
    """Read an identifier.

    Raises
    ------
    WrongIdentifier
        If it cannot be read, or has no level that its information model knows.
    InvalidQuery
        If a key breaks the rules of its VR.
    """
    dataset = _parsed(data, transfer_syntax_uid)
    text = str(dataset.get("QueryRetrieveLevel", "")).strip().upper()
    of_patients = text == _PATIENT and root is Root.PATIENT
    try:
        level = Level.STUDY if of_patients else Level(text)
    except ValueError:
        raise WrongIdentifier(
            "Query/Retrieve Level is missing or none of this information model"
        ) from None
    keys: list[Key] = []
    returned: set[int] = set()
    tags = dataset.keys()  # a data set itself yields elements
    for tag in tags:
        if tag in _NOT_KEYS or tag.element == 0:
            continue
        returned.add(int(tag))
        keys += _keys(dataset, int(tag), ())
    return Identifier(level, of_patients, tuple(keys), frozenset(returned))


def _parsed(data: bytes, transfer_syntax_uid: str) -> Dataset:
    encoding = Encoding.of(transfer_syntax_uid)
    try:
        # The walk keeps a deep or damaged data set from the parser.
        walk(data, encoding)
        return read_dataset(
            BytesIO(data),
            is_implicit_VR=encoding.implicit_vr,
            is_little_endian=not encoding.big_endian,
        )
    except InvalidInstance as error:
        raise WrongIdentifier("the identifier cannot be read") from error
    except Exception as error:
        raise WrongIdentifier(
            f"the identifier cannot be read ({type(error).__name__})"
        ) from error


def _keys(dataset: Dataset, tag: int, parents: tuple[int, ...]) -> Iterator[Key]:
    try:
        element = dataset[Tag(tag)]
        value = element.value
    except Exception as error:
        raise WrongIdentifier(
            f"the value of ({tag >> 16:04X},{tag & 0xFFFF:04X}) cannot be read"
        ) from error
    path = (*parents, tag)
    if element.VR == "SQ":
        # PS3.4 C.2.2.2.6: one item, each attribute in it is a key.
        for item in (value or ())[:1]:
            inside = item.keys()
            for inner in inside:
                yield from _keys(item, int(inner), path)
        return
    key = compile_key(path, _text(value), element.VR)
    if key is not None:
        yield key


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, MultiValue | list | tuple):
        return "\\".join(map(str, value))
    return str(value)


def write_match(
    model: JsonModel,
    identifier: Identifier,
    *,
    retrieve_ae_title: str,
    transfer_syntax_uid: str,
) -> bytes:
    """Write the identifier of one match: what was asked for, empty where unknown."""
    picked: JsonModel = {}
    for tag in sorted(identifier.returned):
        name = f"{tag:08X}"
        if name in model:
            picked[name] = model[name]
    dataset = Dataset.from_json(picked)
    for tag in identifier.returned:
        if tag not in dataset:
            _put_empty(dataset, tag)
    dataset.SpecificCharacterSet = _UTF_8
    dataset.QueryRetrieveLevel = (
        _PATIENT if identifier.of_patients else identifier.level.value
    )
    dataset.RetrieveAETitle = retrieve_ae_title
    if not identifier.of_patients:
        dataset.InstanceAvailability = "ONLINE"
    return write_data_set(dataset, transfer_syntax_uid)


def _put_empty(dataset: Dataset, tag: int) -> None:
    try:
        vr = dictionary_VR(tag).split(" ")[0]
    except KeyError:
        return  # a private attribute that nobody knows
    dataset.add_new(tag, vr, [] if vr == "SQ" else None)


def write_data_set(dataset: Dataset, transfer_syntax_uid: str) -> bytes:
    """Write a data set without File Meta Information.

    Raises
    ------
    InvalidInstance
        If it cannot be written.
    """
    encoding = Encoding.of(transfer_syntax_uid)
    written = encode(dataset, encoding.implicit_vr, not encoding.big_endian)
    if written is None:
        raise InvalidInstance("a data set cannot be written")
    return written
