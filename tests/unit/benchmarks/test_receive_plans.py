"""A run of the receive benchmark counts only if what was sent is kept as it was."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import ImplicitVRLittleEndian

from benchmarks import receive
from benchmarks.bars import BARS
from benchmarks.harness.instances import KINDS, Studies, write_studies
from benchmarks.receiving.check import check_kept
from benchmarks.receiving.peers import PEERS, Receiver
from benchmarks.receiving.raw_tcp import records
from benchmarks.receiving.senders import SENDERS
from benchmarks.receiving.wire import data_set_of

TINY = replace(KINDS["MR"], rows=4)


@pytest.fixture
def studies(tmp_path: Path) -> Studies:
    return write_studies(tmp_path / "in", TINY, count=5, associations=2)


def receiver_that_keeps(files: list[bytes], *, exact: bool = True) -> Receiver:
    program: Any = type("Program", (), {"log": Path("log")})()
    return Receiver(program, 0, lambda: [lambda one=one: one for one in files], exact)


def files_of(studies: Studies) -> list[bytes]:
    return [path.read_bytes() for path in studies.sources.values()]


def test_every_plan_can_be_run_and_its_bars_exist() -> None:
    for plan in receive.PLANS.values():
        assert plan.sender in SENDERS
        assert plan.kind in KINDS
        for arm in plan.arms:
            assert arm in PEERS or arm in receive.OURS
        for bar in plan.bars:
            assert BARS[bar.key].benchmark == "receive"
            assert {bar.arm, bar.other} <= {*plan.arms, ""}


def test_studies_share_no_uid_and_are_spread_over_the_associations(
    studies: Studies,
) -> None:
    datasets = [dcmread(path) for path in studies.sources.values()]

    assert studies.count == 5
    assert len({one.SOPInstanceUID for one in datasets}) == 5
    assert len({one.StudyInstanceUID for one in datasets}) == 2
    assert [len(list(folder.iterdir())) for folder in studies.folders] == [3, 2]


def test_what_is_kept_as_it_was_sent_counts(studies: Studies) -> None:
    check_kept(receiver_that_keeps(files_of(studies)), studies)


def test_a_missing_instance_is_found(studies: Studies) -> None:
    with pytest.raises(RuntimeError, match="5 instances .* and 4 are kept"):
        check_kept(receiver_that_keeps(files_of(studies)[1:]), studies, within_s=0)


def test_a_changed_byte_is_found(studies: Studies) -> None:
    changed = [one[:-1] + bytes([one[-1] ^ 1]) for one in files_of(studies)]

    for exact in (True, False):
        with pytest.raises(RuntimeError, match="not kept as it was sent"):
            check_kept(receiver_that_keeps(changed, exact=exact), studies)


def test_another_transfer_syntax_is_found(studies: Studies, tmp_path: Path) -> None:
    files = []
    for path in studies.sources.values():
        dataset = dcmread(path)
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        dataset.save_as(tmp_path / "implicit.dcm", implicit_vr=True, little_endian=True)
        files.append((tmp_path / "implicit.dcm").read_bytes())

    with pytest.raises(RuntimeError, match="not in Explicit VR"):
        check_kept(receiver_that_keeps(files, exact=False), studies)


def test_data_set_is_what_follows_the_file_meta_information(studies: Studies) -> None:
    file = files_of(studies)[0]

    # (0008,0016) SOP Class UID comes first.
    assert data_set_of(file)[:6] == b"\x08\x00\x16\x00UI"
    assert file.endswith(data_set_of(file))
    with pytest.raises(ValueError, match="no DICOM file"):
        data_set_of(b"\0" * 200)


def test_records_of_a_raw_log_end_where_nothing_was_written(tmp_path: Path) -> None:
    segment = tmp_path / "000000.log"
    lengths = (3, 4)
    parts = [n.to_bytes(8, "little") + b"x" * n for n in lengths]
    segment.write_bytes(b"".join(parts) + bytes(100))

    assert records(tmp_path) == [(segment, 8, 3), (segment, 19, 4)]
