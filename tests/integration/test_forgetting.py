from pathlib import Path

import pytest
from node_world import make_world

from core.database import jobs
from core.database.schema import (
    content_set_instance,
    delivery,
    event,
    instance,
    job,
    outbox,
    report,
    series,
    study,
)
from core.errors import IllegalTransition, StoreUnavailable
from core.settings import Settings
from core.uids import derived_uid
from dicom_node.forgetting import Forgotten, forget_study

TABLES = (
    study, series, instance, content_set_instance, job, outbox, report, delivery, event,
)  # fmt: skip
UID = derived_uid("study", "a")


@pytest.fixture
def world(tmp_path):
    made = make_world(Settings(data_dir=tmp_path))
    yield made
    made.database.close()


def stored_files(root: Path) -> list[Path]:
    return sorted(root.rglob("*.dcm"))


def test_nothing_of_a_forgotten_study_is_left(world):
    world.report("a", ("pacs",))

    forgotten = forget_study(world.database, world.store, UID)

    assert forgotten == Forgotten(instances=1, jobs=1, reports=1, files=2)
    assert stored_files(world.store.root) == []
    with world.database.read() as connection:
        left = {
            table.name: connection.execute(table.select()).all() for table in TABLES
        }
    assert left == {table.name: [] for table in TABLES}


def test_another_study_keeps_its_rows_and_files(world):
    world.report("a", ("pacs",))
    world.report("b", ("pacs",))

    forget_study(world.database, world.store, UID)

    assert world.study(derived_uid("study", "b")).instance_count == 1
    assert len(stored_files(world.store.root)) == 2


def test_a_file_that_another_study_names_stays(world):
    world.receive("same", study="a")
    other = world.receive("other", study="b")
    with world.database.write() as connection:
        # Two instances with one content: what a content-addressed store must survive.
        shared = connection.execute(instance.select()).all()[0].sha256
        connection.execute(
            instance.update()
            .where(instance.c.study_id == world.study(other).id)
            .values(sha256=shared)
        )

    forget_study(world.database, world.store, UID)

    assert world.store.path_of(shared).exists()


def test_a_study_with_a_running_job_is_refused_and_stays_whole(world):
    uid = world.receive("a", study="a")
    job_id = world.queue_job(uid)
    with world.database.write() as connection:
        assert jobs.claim(connection, job_id, worker="w")

    with pytest.raises(IllegalTransition, match="running"):
        forget_study(world.database, world.store, uid)

    assert len(world.jobs(uid)) == 1


def test_a_running_job_can_be_forgotten_by_force_and_its_worker_writes_nothing(world):
    uid = world.receive("a", study="a")
    job_id = world.queue_job(uid)
    with world.database.write() as connection:
        claim = jobs.claim(connection, job_id, worker="w")

    forget_study(world.database, world.store, uid, force=True)

    with world.database.write() as connection:
        assert not jobs.beat(connection, claim)


def test_an_unknown_study_is_told(world):
    with pytest.raises(StoreUnavailable, match="no study"):
        forget_study(world.database, world.store, "1.2.3")


def test_a_study_of_a_report_alone_is_forgotten_too(world):
    uid = world.receive("a", study="a", is_image=False)

    forgotten = forget_study(world.database, world.store, uid)

    assert forgotten.instances == 1
