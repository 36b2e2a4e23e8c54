"""Every real file, sent to a running node: kept bit for bit, and each study ends.

The lung model is pointed at everything, so whatever it may not read must end with a
reason. Sent are the bytes as they lie in the file, in their own transfer syntax.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from models.catalogue import SHIPPED_BUNDLES
from tests.data import (
    DICOM_FILES,
    Instance,
    index_rows,
    needs_dicom_files,
    read_instance,
)
from tests.oracle import (
    exactly_one_report,
    no_loss,
    no_phantom,
    nothing_silent,
    report_matches_input,
)
from tests.peers import Ledger, RecordingPacs, recording_pacs, send
from tests.running import Destination, System, TestTimes, running_system

MODEL = "lung-pneumonia-paediatric"
# No objects of a study: a directory, and a color palette (PS3.4 GG.3).
NO_IMAGES_OF_A_STUDY = {"1.2.840.10008.1.3.10", "1.2.840.10008.5.1.4.39.1"}
DEFLATED = {DeflatedExplicitVRLittleEndian, "1.2.840.10008.1.2.8.1"}
# Cannot be parsed to their last byte.
DAMAGED = ["bad_sequence.dcm", "rtplan_truncated.dcm"]

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(900),
    needs_dicom_files,
    pytest.mark.skipif(
        not (SHIPPED_BUNDLES / MODEL).is_dir(), reason=f"{MODEL} is not there"
    ),
]


@dataclass
class Outcome:
    """The system after everything was sent and has ended."""

    system: System
    pacs: RecordingPacs
    ledger: Ledger
    files: dict[str, Instance]
    unsendable: list[str]


@pytest.fixture(scope="module")
def outcome() -> Iterator[Outcome]:
    files = {
        row["file"]: read_instance(DICOM_FILES / row["file"]) for row in index_rows()
    }
    # Without these two there is no C-STORE request (PS3.7 9.3.1.1).
    unsendable = [
        name
        for name, one in files.items()
        if not (one.sop_class_uid and one.sop_instance_uid)
    ]
    sendable = [one for name, one in files.items() if name not in unsendable]
    sendable.sort(key=lambda one: one.study_instance_uid)
    with (
        recording_pacs() as pacs,
        running_system(
            destinations=(Destination("pacs", pacs.port),),
            models=(MODEL,),
            times=TestTimes(quiet_s=3.0, lease_s=10.0),
        ) as system,
    ):
        ledger = Ledger()
        for instance in sendable:
            send(system.port, [instance], ledger)
        system.wait_until_idle(timeout_s=600)
        yield Outcome(system, pacs, ledger, files, unsendable)


def test_everything_acknowledged_is_kept_bit_for_bit(outcome):
    assert len(outcome.ledger.acknowledged()) > 150
    no_loss(outcome.system, outcome.ledger)
    no_phantom(outcome.system)


def test_what_is_not_acknowledged_is_refused_with_a_status(outcome):
    refused = [line for line in outcome.ledger.lines if not line.acknowledged]

    without_study = [one for one in refused if not one.instance.study_instance_uid]
    assert {line.status for line in without_study} <= {0xC000, 0x0117, 0xA900}
    for line in refused:
        assert line.status is not None, f"no answer: {line.instance.name}"
    # Nothing but a missing UID, damage, or another content of a UID that is kept.
    kept = {one.sop_instance_uid for one in outcome.ledger.acknowledged()}
    others = [
        line.instance.name
        for line in refused
        if line.instance.study_instance_uid
        and line.instance.sop_instance_uid not in kept
    ]
    assert sorted(others) == sorted(DAMAGED)


def test_only_deflated_syntaxes_and_what_is_no_storage_are_not_negotiated(outcome):
    for instance in outcome.ledger.not_negotiated:
        deflated = instance.transfer_syntax_uid in DEFLATED
        assert deflated or instance.sop_class_uid in NO_IMAGES_OF_A_STUDY


def test_every_file_is_accounted_for(outcome):
    ledger = outcome.ledger

    told = len(ledger.lines) + len(ledger.not_negotiated) + len(outcome.unsendable)
    assert told == len(outcome.files)


def test_every_study_ends_with_a_report_that_reached_the_pacs(outcome):
    nothing_silent(outcome.system)
    exactly_one_report(outcome.system, outcome.pacs)
    report_matches_input(outcome.system)
    assert len(outcome.pacs.uids) == len(outcome.system.jobs())


def test_no_file_ends_a_reading_process(outcome):
    jobs = outcome.system.jobs()

    assert {job["attempts"] for job in jobs} == {1}
    assert {job["state"] for job in jobs} == {"reported"}
    assert not outcome.system.worker.said("attempt_ended")
    assert outcome.system.node.alive
    assert outcome.system.worker.alive


def test_no_file_gets_a_finding_as_none_is_a_frontal_chest_of_a_child(outcome, request):
    names = {one.sop_instance_uid: name for name, one in outcome.files.items()}
    analysed = {}
    for job in outcome.system.jobs():
        reading = json.loads(job["reading"])
        if reading["outcome"] == "analysed":
            (image,) = reading["images"]
            name = names[image["sop_instance_uid"]]
            analysed[name] = reading["findings"][0]["probability"]

    _tell(request, outcome, analysed)
    assert sorted(analysed) == []


def _tell(
    request: pytest.FixtureRequest, outcome: Outcome, analysed: dict[str, float]
) -> None:
    """Write the figures under the test, for whoever reads the log."""
    ledger = outcome.ledger
    readings = [json.loads(job["reading"]) for job in outcome.system.jobs()]
    reasons = Counter(one.get("reason", one["outcome"]) for one in readings)
    statuses = Counter(f"{line.status:04X}" for line in ledger.lines)
    lines = [
        f"{len(outcome.files)} files: {len(ledger.lines)} sent {dict(statuses)}, "
        f"{len(ledger.not_negotiated)} not negotiated, "
        f"{len(outcome.unsendable)} without the UIDs a request needs",
        f"{len(readings)} studies: {dict(reasons)}",
        *(f"analysed: {name} {value:.3f}" for name, value in analysed.items()),
    ]
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    for line in lines:
        reporter.write_line(line)
