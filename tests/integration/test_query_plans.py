"""No query that runs for each study reads a whole table.

With ten thousand studies waiting and a million kept, reading one through for each of
them is what makes a backlog slow. SQLite tells how it is going to find the rows.
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

from node_world import MODEL, World, make_world
from sqlalchemy import event

from core.database import (
    deliveries,
    failure_reports,
    jobs,
    overview,
    reports,
    studies,
)
from core.database.reports import NewReport
from core.settings import (
    AssemblySettings,
    DestinationSettings,
    RuleSettings,
    Settings,
)
from core.uids import derived_uid
from dicom_node.assembly import Assembler
from dicom_node.publisher import Publisher
from dicom_node.sweep import Sweep

GROWING = (
    "study", "series", "instance", "conflict", "content_set_instance", "job", "outbox",
    "report", "delivery", "event",
)  # fmt: skip
_SCAN = re.compile(rf"SCAN ({'|'.join(GROWING)})\b")


@contextmanager
def plans(world: World) -> Iterator[dict[str, str]]:
    """Collect the statements that read a whole table, and how they do it."""
    found: dict[str, str] = {}

    def explain(_connection, cursor, statement, parameters, _context, many):
        if not statement.startswith(("SELECT", "UPDATE", "DELETE", "INSERT")):
            return
        first = parameters[0] if many else parameters
        asking = cursor.connection.cursor()
        asking.execute(f"EXPLAIN QUERY PLAN {statement}", first)
        for row in asking.fetchall():
            if _SCAN.match(row[3]):
                found[" ".join(statement.split())] = row[3]
        asking.close()

    event.listen(world.database.engine, "before_cursor_execute", explain)
    try:
        yield found
    finally:
        event.remove(world.database.engine, "before_cursor_execute", explain)


def make(tmp_path) -> World:
    return make_world(
        Settings(
            data_dir=tmp_path,
            assembly=AssemblySettings(quiet_time_s=10, hard_cap_s=100),
            rules=(RuleSettings(name="radiographs", when={"Modality": "DX"}),),
            destinations=(DestinationSettings(name="pacs"),),
        )
    )


def come_in(world: World) -> str:
    assembler = Assembler(
        world.settings, world.database, world.store, lambda: [MODEL], clock=world.clock
    )
    uid = world.receive("a")
    world.receive("a")
    assembler.note_arrival(uid)
    assembler.tick()
    world.clock.now += 10
    assembler.tick()
    assembler.resume()
    return uid


def read(world: World, uid: str) -> None:
    (waiting,) = world.jobs(uid)
    with world.database.write() as connection:
        held = jobs.claim(connection, waiting.id, worker="w")
        assert held is not None
        assert jobs.claim(connection, waiting.id, worker="v") is None
        jobs.beat(connection, held)
        jobs.set_child(connection, held, 1)
        studies.instances_of_content_set(connection, held.job.content_set)
        jobs.commit_reading(
            connection, held, reading="{}", outcome="analysed", timings={}
        )
        reports.newest_report(
            connection, held.job.study_id, model=MODEL.name, sop_class_uid="1.2"
        )
        document = NewReport(
            study_id=held.job.study_id,
            job_id=held.job_id,
            document_kind="reading",
            sop_class_uid="1.2",
            sop_instance_uid=derived_uid("report"),
            series_instance_uid="1.2.3",
            sha256="a" * 64,
            bytes=1,
            predecessor_id=None,
        )
        jobs.store_report(connection, held, [(document, ("pacs",))], timings={})


def fail_one(world: World) -> None:
    uid = world.receive("b", study="other")
    job_id = world.queue_job(uid)
    with world.database.write() as connection:
        held = jobs.claim(connection, job_id, worker="w")
        assert held is not None
        jobs.give_back(
            connection, job_id, held.lease_token, reason="memory", explanation="",
            maximum_attempts=1,
        )  # fmt: skip
        failed = failure_reports.claim(connection, job_id, worker="w")
        assert failed is not None
        failure_reports.release(connection, job_id, failed.lease_token)
        jobs.retry(connection, job_id)
        jobs.dismiss(connection, job_id)


def deliver(world: World) -> None:
    with world.database.write() as connection:
        (row,) = deliveries.due(connection, now=2e10, destination="pacs")
        deliveries.start(connection, row.id)
        deliveries.postpone(connection, row.id, due_at=time.time(), answer="away")
        deliveries.start(connection, row.id)
        deliveries.accepted(connection, row.id, answer="0000")


def test_nothing_that_runs_for_each_study_reads_a_whole_table(tmp_path):
    world = make(tmp_path)
    publisher = Publisher(world.database, lambda _job, _priority: None)

    with plans(world) as found:
        uid = come_in(world)
        publisher.publish_due()
        publisher.publish_due()
        Sweep(world.settings, world.database, clock=world.clock).sweep()
        read(world, uid)
        fail_one(world)
        deliver(world)
        with world.database.read() as connection:
            overview.job_lines(connection, study_instance_uid=uid)
            studies.known_instance(connection, derived_uid("instance", "study", "a"))
    world.database.close()

    assert found == {}


def test_the_watch_over_plans_sees_a_query_that_reads_a_whole_table(tmp_path):
    world = make(tmp_path)

    with plans(world) as found, world.database.read() as connection:
        connection.exec_driver_sql("SELECT id FROM job WHERE model = 'x'").all()
    world.database.close()

    assert list(found.values()) == ["SCAN job"]
