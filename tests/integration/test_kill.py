"""Whatever is killed, wherever: nothing acknowledged is lost, and one report comes.

One system runs for the whole module and every test leaves it whole again, so the
invariants are checked on everything that all tests before have left behind, too.
"""

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.data import Instance, phantom_study
from tests.oracle import everything_holds
from tests.peers import Arrival, Ledger, RecordingPacs, send
from tests.running import Destination, System, running_system
from tests.tiny_bundle import make_tiny_bundle

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]

# Resent after a kill, the study must not have been judged complete in between.
INSTANCES = 3
WAITS_FOR_ALL = f"""
[[sources]]
calling_ae_title = "SENDER"
minimum_instances = {INSTANCES}
"""
# Each of the first readings of a process takes so long.
IN_MID_INFERENCE = ",".join(f"worker.mid_infer:sleep=4:{nth}" for nth in range(1, 9))


@dataclass
class World:
    """The system under test, its PACS, and what all senders know."""

    system: System
    pacs: RecordingPacs
    ledger: Ledger
    folder: Path

    def study(self, seed: str) -> list[Instance]:
        """Make a study of three small radiographs."""
        return phantom_study(self.folder / seed, seed, images=INSTANCES)

    def send(self, instances: list[Instance]) -> None:
        """Send, and note the answers."""
        send(self.system.port, instances, self.ledger)

    def ends_in_one_report(self, study: list[Instance]) -> sqlite3.Row:
        """Wait for the end of everything and check it; returns the study's report."""
        uid = study[0].study_instance_uid
        self.system.wait_for_reports(uid)
        everything_holds(self.system, self.ledger, self.pacs)
        (report,) = self.system.reports(uid)
        assert report["sop_instance_uid"] in self.pacs.uids
        assert self.system.study(uid)["instance_count"] == INSTANCES  # type: ignore[index]
        return report

    def slow_worker(self) -> None:
        """See to it that readings take long enough to be killed in between."""
        if self.system.worker.faults == IN_MID_INFERENCE and self.system.worker.alive:
            return
        self.system.worker.kill()
        self.system.start_worker(faults=IN_MID_INFERENCE, warm=False)

    def arrivals(self, study: list[Instance]) -> list[Arrival]:
        """Return every arrival of a study's report at the PACS."""
        (report,) = self.system.reports(study[0].study_instance_uid)
        uid = report["sop_instance_uid"]
        return [one for one in self.pacs.accepted if one.sop_instance_uid == uid]

    def report_files(self) -> set[Path]:
        """Return the files of all reports, with a row or without."""
        return set((self.system.data_dir / "reports").glob("*/*.dcm"))

    def job(self, study: list[Instance]) -> sqlite3.Row:
        """Return the study's only job."""
        (job,) = self.system.jobs(study[0].study_instance_uid)
        return job

    def wait_for_mid_inference(self, study: list[Instance], attempt: int = 1) -> int:
        """Wait until a study is being read; returns the id of the reading process."""
        uid = study[0].study_instance_uid

        def being_read(row: sqlite3.Row) -> bool:
            return (
                row["study_instance_uid"] == uid
                and row["state"] == "running"
                and row["attempts"] == attempt
                and row["child_pid"] is not None
                and row["heartbeat"] >= 1
            )

        return int(self.system.wait_for_job(being_read, "being read")["child_pid"])

    def reader_of_or_end(self, study: list[Instance], known: set[int]) -> int | None:
        """Wait for a new process that reads a study; None once its job has failed."""

        def look() -> tuple[int | None] | None:
            jobs = self.system.jobs(study[0].study_instance_uid)
            if not jobs:
                return None
            (job,) = jobs
            if job["state"] == "failed":
                return (None,)
            reading = job["state"] == "running" and job["heartbeat"] >= 1
            new = reading and job["child_pid"] not in known
            return (job["child_pid"],) if new else None

        (found,) = self.system.wait_for(look, "read again, or failed")
        return found


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("kill")
    make_tiny_bundle(folder / "bundles" / "tiny")
    with (
        RecordingPacs() as pacs,
        running_system(
            destinations=(Destination("pacs", pacs.port),),
            bundles=folder / "bundles",
            models=("tiny-brightness",),
            settings=WAITS_FOR_ALL,
        ) as system,
    ):
        yield World(system, pacs, Ledger(), folder)


@pytest.fixture
def world(running: World) -> World:
    running.system.heal()
    return running


# -- the node --------------------------------------------------------------------------


def test_a_node_killed_at_each_place_of_receiving_loses_nothing_acknowledged(world):
    study = world.study("receiving")
    world.system.node.kill()

    # What is known already passes none of these places, so each has what it needs.
    for point, instance in (
        ("after_append", study[0]),
        ("after_log_sync", study[1]),
        ("before_ack", study[2]),
    ):
        world.system.start_node(faults=f"scp.{point}:killall")
        world.send([instance])
        assert world.system.node.wait_for_death() == -signal.SIGKILL
    assert len(world.ledger.missing(study)) == INSTANCES
    # Unacknowledged, but written before the kill: the next start finds them in the log.
    for point in ("before_commit", "after_commit"):
        world.system.node.start(faults=f"index.{point}:kill")
        assert world.system.node.wait_for_death() == -signal.SIGKILL
    world.system.start_node()
    world.send(world.ledger.missing(study))

    assert world.ledger.missing(study) == []
    world.ends_in_one_report(study)


def test_in_the_order_of_files_a_killed_node_loses_nothing_acknowledged_either(world):
    study = world.study("receiving-files")
    node = world.system.node
    node.kill()
    node.environment["SECONDREAD_STORE__RECEIVE_ORDER"] = "file"

    try:
        for point, instance in (
            ("after_part_write", study[0]),
            ("after_fsync", study[0]),
            ("after_rename", study[1]),
            ("before_ack", study[2]),
        ):
            world.system.start_node(faults=f"scp.{point}:killall")
            world.send([instance])
            assert node.wait_for_death() == -signal.SIGKILL
        assert len(world.ledger.missing(study)) == INSTANCES
        world.system.start_node()
        world.send(world.ledger.missing(study))

        assert world.ledger.missing(study) == []
        world.ends_in_one_report(study)
    finally:
        node.kill()
        del node.environment["SECONDREAD_STORE__RECEIVE_ORDER"]
        world.system.start_node()


def test_a_listener_killed_at_each_place_of_receiving_is_replaced(world):
    study = world.study("listener")
    world.system.node.kill()

    for point, instance in (
        ("after_append", study[0]),
        ("after_log_sync", study[1]),
        ("before_ack", study[2]),
    ):
        # Each new listener is killed at its first instance as well.
        world.system.start_node(faults=f"scp.{point}:kill")
        world.send([instance])
        world.system.wait_for(
            lambda: world.system.node.said("listener_ended"), "a listener was killed"
        )
        assert world.system.node.alive
        world.system.node.kill()
    assert len(world.ledger.missing(study)) == INSTANCES
    world.system.start_node()
    world.send(world.ledger.missing(study))

    assert world.ledger.missing(study) == []
    world.ends_in_one_report(study)


def test_a_node_killed_between_receive_and_settle_settles_after_its_restart(world):
    study = world.study("receive-settle")

    world.send(study)
    world.system.node.kill()
    assert world.system.jobs(study[0].study_instance_uid) == []
    world.system.start_node()

    world.ends_in_one_report(study)


def test_a_node_killed_around_an_announcement_announces_the_job_again(world):
    study = world.study("announcing")
    world.system.node.kill()

    world.system.start_node(faults="outbox.before_publish:kill")
    world.send(study)
    assert world.system.node.wait_for_death() == -signal.SIGKILL
    world.system.start_node(faults="outbox.after_publish_before_mark:kill")
    assert world.system.node.wait_for_death() == -signal.SIGKILL
    world.system.start_node()

    world.ends_in_one_report(study)


def test_a_node_killed_while_delivering_brings_the_same_bytes(world):
    study = world.study("delivering")
    world.system.node.kill()

    arrived = []
    for point in ("before_send", "after_ack_before_mark", "after_mark"):
        world.system.start_node(faults=f"export.{point}:kill")
        if point == "before_send":
            world.send(study)
        assert world.system.node.wait_for_death() == -signal.SIGKILL
        arrived.append(len(world.arrivals(study)))
    world.system.start_node()

    world.ends_in_one_report(study)
    assert arrived == [0, 1, 2]
    assert len(world.arrivals(study)) == 2


def test_a_destination_that_was_away_gets_its_report_once_it_is_back(world):
    study = world.study("pacs-away")
    world.pacs.stop()

    try:
        world.send(study)
        world.system.wait_for(
            lambda: any(
                row["attempts"] >= 2
                for row in world.system.deliveries()
                if row["state"] != "delivered"
            ),
            "two attempts at the closed port",
        )
    finally:
        world.pacs.start()

    world.ends_in_one_report(study)


# -- the worker ------------------------------------------------------------------------


def test_a_reading_process_killed_in_mid_inference_costs_one_attempt(world):
    study = world.study("reading-process")
    world.slow_worker()

    world.send(study)
    os.kill(world.wait_for_mid_inference(study), signal.SIGKILL)

    world.ends_in_one_report(study)
    assert world.job(study)["attempts"] == 2


def test_a_worker_killed_after_its_claim_and_in_mid_inference_loses_its_lease(world):
    study = world.study("whole-worker")
    world.system.worker.kill()

    world.system.start_worker(faults="worker.after_claim:kill", warm=False)
    world.send(study)
    assert world.system.worker.wait_for_death() == -signal.SIGKILL
    world.system.start_worker(faults=IN_MID_INFERENCE, warm=False)
    child = world.wait_for_mid_inference(study, 2)
    world.system.worker.kill()
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    world.system.start_worker(warm=False)

    world.ends_in_one_report(study)
    assert world.job(study)["attempts"] == 3


def test_a_worker_killed_around_its_result_makes_the_same_report(world):
    study = world.study("result")
    world.system.worker.kill()

    world.system.start_worker(faults="worker.after_result_commit:kill", warm=False)
    world.send(study)
    assert world.system.worker.wait_for_death() == -signal.SIGKILL
    before = world.report_files()
    world.system.start_worker(faults="worker.after_result_file:kill", warm=False)
    assert world.system.worker.wait_for_death() == -signal.SIGKILL
    (written,) = world.report_files() - before
    world.system.start_worker(warm=False)

    report = world.ends_in_one_report(study)
    assert world.system.report_path(report["sha256"]) == written
    assert world.report_files() == before | {written}


def test_a_worker_frozen_past_its_lease_writes_nothing_when_it_wakes(world):
    study = world.study("frozen")
    world.slow_worker()

    world.send(study)
    world.wait_for_mid_inference(study)
    world.system.worker.freeze()
    job_id = world.job(study)["id"]
    world.system.wait_for_job(
        lambda row: row["id"] == job_id and row["state"] == "queued",
        "the lease is taken back",
    )
    world.system.worker.thaw()

    world.ends_in_one_report(study)
    assert world.job(study)["attempts"] == 2
    assert world.system.worker.said("lease_lost")


def test_a_study_that_kills_its_reader_fails_after_three_attempts_and_says_so(world):
    poison, other = world.study("poison"), world.study("beside-poison")
    world.slow_worker()

    world.send(poison)
    killed: set[int] = set()
    while (process_id := world.reader_of_or_end(poison, killed)) is not None:
        os.kill(process_id, signal.SIGKILL)
        if not killed:
            world.send(other)
        killed.add(process_id)

    world.ends_in_one_report(other)
    assert world.job(other)["attempts"] == 1, "its neighbour's fault is not its own"
    failure = world.ends_in_one_report(poison)
    job = world.job(poison)
    assert (job["state"], job["reason"], job["attempts"]) == (
        "failed",
        "worker died",
        3,
    )
    assert failure["document_kind"] == "failure"
    document = dcmread(world.system.report_path(failure["sha256"]))
    assert document.CompletionFlag == "PARTIAL"
    assert "Probability" not in str(document)


# -- the broker ------------------------------------------------------------------------


def test_a_broker_that_forgot_a_queued_job_is_told_again(world):
    study = world.study("queued")
    world.system.worker.kill()

    world.send(study)
    world.system.wait_for(
        lambda: world.system.rows("SELECT 1 FROM outbox WHERE published_at > 0"),
        "the job is announced",
    )
    world.system.empty_broker()
    world.system.start_worker(warm=False)

    world.ends_in_one_report(study)
    assert world.job(study)["attempts"] == 1


def test_a_broker_that_was_killed_under_a_running_worker_is_found_again(world):
    study = world.study("broker-gone")
    world.system.broker.kill()

    world.send(study)
    world.system.wait_for(
        lambda: world.system.node.said("broker_unavailable"), "the node notices"
    )
    world.system.empty_broker()

    world.ends_in_one_report(study)
