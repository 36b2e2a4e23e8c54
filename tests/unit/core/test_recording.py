"""A batch of instances becomes what its instances would become one by one."""

import tempfile
from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from core.database import schema, studies
from core.database.engine import Database, open_database
from core.database.studies import Recorded
from core.received import ReceivedInstance
from core.settings import Priority, Settings
from tests.unit.core.conftest import RECEIVED, settle


def state_of(database: Database) -> dict[str, set[tuple[object, ...]]]:
    """All that was recorded, without ids."""
    s, i, e = schema.study.c, schema.instance.c, schema.event.c
    queries = {
        "studies": select(
            s.study_instance_uid, s.state, s.order_priority, s.calling_ae_title,
            s.instance_count, s.first_instance_at, s.last_instance_at,
        ),
        "instances": select(
            s.study_instance_uid, schema.series.c.series_instance_uid,
            schema.series.c.modality, i.sop_instance_uid, i.sha256, i.own_result,
            i.is_image, i.received_at,
        )
        .join(schema.series, schema.series.c.id == i.series_id)
        .join(schema.study, s.id == i.study_id),
        "events": select(s.study_instance_uid, e.name, e.at)
        .join(schema.study, s.id == e.study_id)
        .where(e.name.endswith(" instance")),
        "conflicts": select(
            schema.conflict.c.sop_instance_uid, schema.conflict.c.kept_sha256,
            schema.conflict.c.refused_sha256,
        ),
    }  # fmt: skip
    with database.read() as connection:
        return {
            name: {tuple(row) for row in connection.execute(query)}
            for name, query in queries.items()
        }


@st.composite
def arrivals(draw: st.DrawFn) -> list[ReceivedInstance]:
    """Instances of few studies, with repetitions, conflicts and results of ours."""
    count = draw(st.integers(1, 12))
    batch = []
    for number in range(count):
        study = draw(st.sampled_from(["1.2.3", "1.2.4", "1.2.5"]))
        batch.append(
            replace(
                RECEIVED,
                study_instance_uid=study,
                series_instance_uid=f"{study}.{draw(st.integers(1, 2))}",
                sop_instance_uid=f"1.9.{draw(st.integers(1, 8))}",
                sha256=draw(st.sampled_from("abc")) * 64,
                modality=draw(st.sampled_from(["CT", "SR"])),
                own_result=draw(st.booleans()),
                order_priority=draw(st.sampled_from(list(Priority))),
                received_at=2000.0 + number,
            )
        )
    return batch


@given(batch=arrivals())
@settings(max_examples=25, deadline=None)
def test_a_batch_is_recorded_as_if_its_instances_had_come_one_by_one(
    batch: list[ReceivedInstance],
) -> None:
    found = []
    for size in (1, len(batch)):
        with tempfile.TemporaryDirectory() as folder:
            database = open_database(Settings(data_dir=Path(folder)))
            with database.write() as connection:
                studies.record_instance(connection, RECEIVED)
            settle(database)
            outcomes = []
            for start in range(0, len(batch), size):
                with database.write() as connection:
                    outcomes += studies.record_instances(
                        connection, batch[start : start + size]
                    )
            found.append((outcomes, state_of(database)))
            database.close()

    assert found[0] == found[1]


def test_a_batch_of_nothing_is_nothing(database: Database) -> None:
    with database.write() as connection:
        assert studies.record_instances(connection, []) == []


def test_the_same_instance_twice_in_a_batch_is_kept_once(database: Database) -> None:
    other = replace(RECEIVED, sha256="c" * 64)

    with database.write() as connection:
        outcomes = studies.record_instances(connection, [RECEIVED, RECEIVED, other])

    assert outcomes == [Recorded.NEW, Recorded.DUPLICATE, Recorded.CONFLICT]
    assert len(state_of(database)["instances"]) == 1


def test_a_batch_may_hold_a_study_for_each_of_its_instances(database: Database) -> None:
    batch = [
        replace(RECEIVED, study_instance_uid=f"1.7.{n}", sop_instance_uid=f"1.8.{n}")
        for n in range(500)
    ]

    with database.write() as connection:
        outcomes = studies.record_instances(connection, batch)

    assert outcomes == [Recorded.NEW] * 500
    assert len(state_of(database)["studies"]) == 500
