"""What must hold after every fault, checked from outside: invariants I1 to I4 and I6.

The system's own code is not asked: the index is read with SQL, files are hashed, and
the PACS tells what it got.
"""

import hashlib
from collections import Counter
from io import BytesIO
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian

from tests.peers import Arrival, Ledger, RecordingPacs
from tests.running import System

__all__ = [
    "data_set_of",
    "everything_holds",
    "exactly_one_report",
    "no_loss",
    "no_phantom",
    "nothing_silent",
    "referenced_instances",
    "report_matches_input",
]


def data_set_of(path: Path) -> bytes:
    """Return a Part 10 file's data set, as it lies there (PS3.10 7.1)."""
    data = path.read_bytes()
    assert data[128:132] == b"DICM", f"{path.name} has no preamble"
    length = int.from_bytes(data[140:144], "little")
    return data[144 + length :]


def no_loss(system: System, ledger: Ledger) -> None:
    """I1: what was acknowledged is in the index and on the disk, bit for bit."""
    rows = {
        row["sop_instance_uid"]: row for row in system.rows("SELECT * FROM instance")
    }
    for instance in ledger.acknowledged():
        row = rows.get(instance.sop_instance_uid)
        assert row is not None, f"acknowledged, but not in the index: {instance.name}"
        assert row["sha256"] == instance.sha256, f"another content: {instance.name}"
        assert row["transfer_syntax_uid"] == instance.transfer_syntax_uid
        stored = data_set_of(object_path(system, row["sha256"]))
        assert hashlib.sha256(stored).hexdigest() == instance.sha256, instance.name


def no_phantom(system: System) -> None:
    """I2: each row has its file and each file its row; nothing is half there."""
    rows = {row["sha256"] for row in system.rows("SELECT sha256 FROM instance")}
    files = {path.stem for path in (system.data_dir / "objects").glob("*/*.dcm")}
    assert files == rows, "files and rows of instances differ"
    reports = {row["sha256"] for row in system.rows("SELECT sha256 FROM report")}
    kept = {path.stem for path in (system.data_dir / "reports").glob("*/*.dcm")}
    # A worker that died before its commit leaves a file without a row; never the other.
    assert reports <= kept, "a report has a row and no file"
    assert not list(system.data_dir.rglob("*.part")), "something is half written"


def exactly_one_report(
    system: System, pacs: RecordingPacs, *, at_the_pacs: bool = True
) -> None:
    """I3: one report for each study, model and content set, always the same bytes."""
    reports = system.reports()
    keys = Counter(
        (row["study_instance_uid"], row["content_set"], row["job_id"])
        for row in reports
    )
    assert set(keys.values()) <= {1}, "two reports of one reading"
    arrived: dict[str, list[Arrival]] = {}
    for arrival in pacs.accepted:
        arrived.setdefault(arrival.sop_instance_uid, []).append(arrival)
    expected = {row["sop_instance_uid"]: row for row in reports}
    if at_the_pacs:
        assert set(arrived) == set(expected), "the PACS holds other reports"
    for uid, arrivals in arrived.items():
        stored = data_set_of(system.report_path(expected[uid]["sha256"]))
        assert {one.data_set for one in arrivals} == {stored}, f"bytes differ: {uid}"


def nothing_silent(system: System) -> None:
    """I4: each study has ended, and each end says what it is."""
    assert system.open_work() == []
    for study in system.rows("SELECT * FROM study"):
        jobs = system.jobs(study["study_instance_uid"])
        assert jobs or study["no_job_reason"], "a study ended without a word"
        for job in jobs:
            assert job["state"] in {"reported", "failed", "dismissed"}
            if job["state"] == "failed":
                assert job["reason"], "a failure without a reason"
                assert job["attempts"], "a failure without an attempt"


def report_matches_input(system: System) -> None:
    """I6: a report's evidence is exactly the content set that was read."""
    for report in system.reports():
        rows = system.rows(
            "SELECT instance.sop_instance_uid FROM content_set_instance "
            "JOIN instance ON instance.id = content_set_instance.instance_id "
            "WHERE content_set = ?",
            report["content_set"],
        )
        document = dcmread(system.report_path(report["sha256"]))
        sources = {row["sop_instance_uid"] for row in rows}
        assert referenced_instances(document) == sources, "the evidence differs"


def everything_holds(system: System, ledger: Ledger, pacs: RecordingPacs) -> None:
    """I1 to I4 and I6, once the system is idle."""
    no_loss(system, ledger)
    no_phantom(system)
    exactly_one_report(system, pacs)
    nothing_silent(system)
    report_matches_input(system)


def object_path(system: System, sha256: str) -> Path:
    """Return where an instance lies in the store."""
    return system.data_dir / "objects" / sha256[:2] / f"{sha256}.dcm"


def referenced_instances(document: Dataset) -> set[str]:
    """Return the instances that a report names as its evidence (PS3.3 C.17.2.3)."""
    predecessors = {
        instance.ReferencedSOPInstanceUID
        for study in document.get("PredecessorDocumentsSequence", [])
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    evidence = {
        str(instance.ReferencedSOPInstanceUID)
        for keyword in (
            "CurrentRequestedProcedureEvidenceSequence",
            "PertinentOtherEvidenceSequence",
        )
        for study in document.get(keyword, [])
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    return evidence - predecessors


def parsed(arrival: Arrival) -> Dataset:
    """Read a report as it arrived at the PACS."""
    dataset = dcmread(BytesIO(arrival.data_set), force=True)
    dataset.ensure_file_meta()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset
