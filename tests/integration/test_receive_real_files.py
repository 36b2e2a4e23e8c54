"""Every real file that can be sent is kept bit for bit, or refused with a reason."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.errors import InvalidDicomError
from pydicom.filereader import dcmread

from tests.data_sets import Sample
from tests.integration.receiving_node import associated, node_on, store_bytes
from tests.receiving import eventually, settings_for

pytestmark = pytest.mark.integration

FILES = Path(__file__).parents[3] / "shared" / "data" / "dicom"
DEFLATED = "1.2.840.10008.1.2.1.99"
# Cut short by their makers, for tests of readers.
TRUNCATED = {
    "MR_truncated.dcm",
    "emri_small_jpeg_2k_lossless_too_short.dcm",
    "rtplan_truncated.dcm",
}


class _RealFile(Sample):
    data: bytes

    @property
    def data_set(self) -> bytes:
        return self.data


def _files() -> Iterator[tuple[str, Sample]]:
    for path in sorted(FILES.rglob("*")):
        if not path.is_file():
            continue
        with path.open("rb") as file:
            try:
                meta = dcmread(file, specific_tags=[], stop_before_pixels=True)
            except (InvalidDicomError, EOFError):
                continue
        try:
            sample = _RealFile(
                sop_class_uid=str(meta.file_meta.MediaStorageSOPClassUID),
                sop_instance_uid=str(meta.file_meta.MediaStorageSOPInstanceUID),
                transfer_syntax_uid=str(meta.file_meta.TransferSyntaxUID),
            )
        except AttributeError:
            continue
        raw = path.read_bytes()
        length = int.from_bytes(raw[140:144], "little")
        if raw[132:136] != b"\x02\0\0\0" or sample.transfer_syntax_uid == DEFLATED:
            continue
        object.__setattr__(sample, "data", raw[144 + length :])
        yield path.name, sample


@pytest.mark.skipif(not FILES.is_dir(), reason="shared/data/dicom is not there")
@pytest.mark.timeout(300)
def test_every_real_file_is_kept_as_it_came_or_refused(tmp_path: Path) -> None:
    statuses: dict[str, int] = {}
    kept: dict[str, str] = {}
    with node_on(settings_for(tmp_path)) as node:
        for name, sample in _files():
            with associated(node.port, sample) as association:
                if not association.is_established or not any(
                    context.abstract_syntax == sample.sop_class_uid
                    for context in association.accepted_contexts
                ):
                    statuses[name] = -1
                    continue
                status = int(store_bytes(association, sample).Status)
            statuses[name] = status
            if status == 0:
                kept.setdefault(
                    sample.sop_instance_uid,
                    hashlib.sha256(sample.data_set).hexdigest(),
                )
        assert eventually(lambda: len(node.rows()) == len(kept), 60)
        rows = node.rows()

        assert rows == kept
        assert all(node.store.verify(sha256) for sha256 in rows.values())
        assert all(statuses[name] == 0xC000 for name in TRUNCATED & statuses.keys())
        assert sum(status == 0 for status in statuses.values()) > 100
