import pytest

from core.database import deliveries, jobs
from core.errors import IllegalTransition
from core.lifecycle import DeliveryState
from tests.unit.core.test_jobs import claim, finish


@pytest.fixture
def delivery_id(database, queued_job):
    finish(database, claim(database, queued_job))
    with database.read() as connection:
        (row,) = deliveries.due(connection, now=2e10)
    return row.id


def row(database, delivery_id):
    with database.read() as connection:
        (found,) = deliveries.deliveries_of_study(connection, 1)
    assert found.id == delivery_id
    return found


def test_a_delivery_is_taken_once_and_its_attempt_counted(database, delivery_id):
    with database.write() as connection:
        assert deliveries.start(connection, delivery_id)
        assert not deliveries.start(connection, delivery_id)

    assert row(database, delivery_id).attempts == 1


def test_a_postponed_delivery_is_not_due_before_its_time(database, delivery_id):
    with database.write() as connection:
        deliveries.start(connection, delivery_id)
        deliveries.postpone(connection, delivery_id, due_at=5000.0, answer="A700")

    with database.read() as connection:
        assert deliveries.due(connection, now=4999.0) == []
        assert len(deliveries.due(connection, now=5000.0)) == 1


def test_what_was_being_sent_when_the_node_died_waits_again(database, delivery_id):
    with database.write() as connection:
        deliveries.start(connection, delivery_id)
        assert deliveries.interrupted(connection) == 1

    assert row(database, delivery_id).state is DeliveryState.WAITING


def test_an_accepted_delivery_is_final(database, delivery_id):
    with database.write() as connection:
        deliveries.start(connection, delivery_id)
        assert deliveries.accepted(connection, delivery_id, answer="0000")
        assert not deliveries.failed(connection, delivery_id, answer="late")

    with (
        pytest.raises(IllegalTransition, match="is delivered"),
        database.write() as connection,
    ):
        deliveries.retry(connection, delivery_id)


def test_a_failed_delivery_can_be_retried_from_the_beginning(database, delivery_id):
    with database.write() as connection:
        deliveries.start(connection, delivery_id)
        deliveries.failed(connection, delivery_id, answer="0122 not supported")
        assert row(database, delivery_id)
        deliveries.retry(connection, delivery_id)

    again = row(database, delivery_id)
    assert (again.state, again.attempts, again.refusals) == (
        DeliveryState.WAITING,
        0,
        0,
    )


def test_a_destination_gets_a_report_only_once(database, delivery_id, queued_job):
    with database.write() as connection:
        job = jobs.job_by_id(connection, queued_job)
        assert job is not None
        deliveries.add(connection, row(database, delivery_id).report_id, ("pacs",))

    with database.read() as connection:
        assert len(deliveries.deliveries_of_study(connection, 1)) == 1
