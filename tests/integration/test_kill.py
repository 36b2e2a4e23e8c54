"""Whatever is killed, wherever: nothing acknowledged is lost, and one report comes.

One system runs for the whole module and every test leaves it whole again, so the
invariants are checked on everything that all tests before have left behind, too.
"""

import os
import signal
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.data import Instance, phantom_study
from tests.oracle import everything_holds
from tests.peers import Ledger, RecordingPacs, send
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
# In the first two readings of each process, so that another study in between changes
# nothing.
IN_MID_INFERENCE = "worker.mid_infer:sleep=5,worker.mid_infer:sleep=5:2"


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


@pytest.mark.parametrize(
    "point",
    [
        "scp.after_part_write",
        "scp.after_fsync",
        "scp.after_rename",
        "scp.before_ack",
        "index.before_commit",
        "index.after_commit",
    ],
)
def test_a_node_killed_while_receiving_loses_nothing_it_acknowledged(world, point):
    study = world.study(point)
    world.system.node.kill()
    world.system.start_node(faults=f"{point}:kill:{2 if 'scp' in point else 1}")

    world.send(study)
    assert world.system.node.wait_for_death() == -signal.SIGKILL
    world.system.restart_node()
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


@pytest.mark.parametrize(
    "point", ["outbox.before_publish", "outbox.after_publish_before_mark"]
)
def test_a_node_killed_around_an_announcement_announces_the_job_again(world, point):
    study = world.study(point)
    world.system.node.kill()
    world.system.start_node(faults=f"{point}:kill")

    world.send(study)
    assert world.system.node.wait_for_death() == -signal.SIGKILL
    world.system.restart_node()

    world.ends_in_one_report(study)


@pytest.mark.parametrize(
    ("point", "arrivals"),
    [
        ("export.before_send", 1),
        ("export.after_ack_before_mark", 2),
        ("export.after_mark", 1),
    ],
)
def test_a_node_killed_while_delivering_brings_the_same_bytes(world, point, arrivals):
    study = world.study(point)
    world.system.node.kill()
    world.system.start_node(faults=f"{point}:kill")

    world.send(study)
    assert world.system.node.wait_for_death() == -signal.SIGKILL
    world.system.restart_node()

    report = world.ends_in_one_report(study)
    arrived = [
        one
        for one in world.pacs.accepted
        if one.sop_instance_uid == report["sop_instance_uid"]
    ]
    assert len(arrived) == arrivals


def test_a_destination_that_was_away_gets_its_report_once_it_is_back(world):
    study = world.study("pacs-away")
    world.pacs.stop()

    world.send(study)
    world.system.wait_for(
        lambda: any(
            row["attempts"] >= 2
            for row in world.system.deliveries()
            if row["state"] != "delivered"
        ),
        "two attempts at the closed port",
    )
    world.pacs.start()

    world.ends_in_one_report(study)


# -- the worker ------------------------------------------------------------------------


def test_a_reading_process_killed_in_mid_inference_costs_one_attempt(world):
    study = world.study("reading-process")
    world.system.worker.kill()
    world.system.start_worker(faults=IN_MID_INFERENCE)

    world.send(study)
    os.kill(world.wait_for_mid_inference(study), signal.SIGKILL)

    world.ends_in_one_report(study)
    assert world.job(study)["attempts"] == 2


def test_a_whole_worker_killed_in_mid_inference_loses_its_lease(world):
    study = world.study("whole-worker")
    world.system.worker.kill()
    world.system.start_worker(faults=IN_MID_INFERENCE)

    world.send(study)
    child = world.wait_for_mid_inference(study)
    world.system.worker.kill()
    os.kill(child, signal.SIGKILL)
    world.system.start_worker()

    world.ends_in_one_report(study)
    assert world.job(study)["attempts"] == 2


def test_a_worker_frozen_past_its_lease_writes_nothing_when_it_wakes(world):
    study = world.study("frozen")
    world.system.worker.kill()
    world.system.start_worker(faults=IN_MID_INFERENCE)

    world.send(study)
    world.wait_for_mid_inference(study)
    world.system.worker.freeze()
    world.system.wait_for_job(
        lambda row: row["id"] == world.job(study)["id"] and row["state"] == "queued",
        "the lease is taken back",
    )
    world.system.worker.thaw()

    world.ends_in_one_report(study)
    assert world.job(study)["attempts"] == 2
    assert world.system.worker.said("lease_lost")


@pytest.mark.parametrize(
    ("point", "attempts"),
    [
        ("worker.after_claim", 2),
        ("worker.after_result_commit", 2),
        ("worker.after_result_file", 2),
    ],
)
def test_a_worker_killed_around_its_result_makes_the_same_report(
    world, point, attempts
):
    study = world.study(point)
    world.system.worker.kill()
    world.system.start_worker(faults=f"{point}:kill", warm=False)

    world.send(study)
    assert world.system.worker.wait_for_death() == -signal.SIGKILL
    files = set((world.system.data_dir / "reports").glob("*/*.dcm"))
    world.system.start_worker(warm=False)

    report = world.ends_in_one_report(study)
    assert world.job(study)["attempts"] == attempts
    if point == "worker.after_result_file":
        # What was written before the kill is what was sent after it.
        assert world.system.report_path(report["sha256"]) in files


def test_a_study_that_kills_its_reader_fails_after_three_attempts_and_says_so(world):
    poison, other = world.study("poison"), world.study("beside-poison")
    world.system.worker.kill()
    world.system.start_worker(faults=IN_MID_INFERENCE)

    world.send(poison)
    for attempt in (1, 2, 3):
        os.kill(world.wait_for_mid_inference(poison, attempt), signal.SIGKILL)
        if attempt == 1:
            world.send(other)

    world.ends_in_one_report(other)
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
