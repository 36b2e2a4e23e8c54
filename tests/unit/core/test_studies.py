from dataclasses import replace

from core.database import studies
from core.database.studies import Recorded
from core.lifecycle import StudyState
from core.settings import Priority
from tests.unit.core.conftest import settle


def record(database, received, **changes):
    with database.write() as connection:
        return studies.record_instance(connection, replace(received, **changes))


def study(database):
    with database.read() as connection:
        row = studies.study_by_uid(connection, "1.2.3")
    assert row is not None
    return row


def test_an_instance_that_comes_twice_is_kept_once(database, received):
    assert record(database, received) is Recorded.NEW
    assert record(database, received) is Recorded.DUPLICATE
    assert study(database).instance_count == 1


def test_other_content_under_a_known_uid_is_a_conflict_and_the_first_stays(
    database, received
):
    record(database, received)

    outcome = record(database, received, sha256="f" * 64)

    assert outcome is Recorded.CONFLICT
    with database.read() as connection:
        known = studies.known_instance(connection, received.sop_instance_uid)
    assert known is not None
    assert known.sha256 == received.sha256


def test_a_late_instance_opens_a_settled_study_again(database, received, queued_job):
    assert study(database).state is StudyState.SETTLED

    record(database, received, sop_instance_uid="1.2.3.1.2", sha256="c" * 64)

    assert study(database).state is StudyState.RECEIVING


def test_a_result_of_ours_that_comes_back_opens_nothing(database, received, queued_job):
    before = study(database).content_set

    record(
        database,
        received,
        sop_instance_uid="2.25.1",
        sha256="d" * 64,
        is_image=False,
        own_result=True,
    )

    assert study(database).state is StudyState.SETTLED
    with database.read() as connection:
        content = studies.content_set_of(connection, study(database).id)
    assert content.sha256 == before


def test_another_vendors_document_does_not_change_what_a_reading_rests_on(
    database, received
):
    record(database, received)
    with database.read() as connection:
        before = studies.content_set_of(connection, study(database).id)

    record(database, received, sop_instance_uid="1.9", sha256="e" * 64, is_image=False)

    with database.read() as connection:
        after = studies.content_set_of(connection, study(database).id)
    assert after == before


def test_the_content_set_does_not_depend_on_the_order_of_arrival(database, received):
    pair = [
        replace(received, sop_instance_uid="1.2.3.1.1", sha256="1" * 64),
        replace(received, sop_instance_uid="1.2.3.1.2", sha256="2" * 64),
    ]
    hashes = set()
    for order in (pair, pair[::-1]):
        with database.engine.connect() as connection:
            for one in order:
                studies.record_instance(connection, one)
            row = studies.study_by_uid(connection, "1.2.3")
            hashes.add(studies.content_set_of(connection, row.id).sha256)
            connection.rollback()

    assert len(hashes) == 1


def test_a_stat_order_raises_the_priority_and_a_later_routine_one_keeps_it(
    database, received
):
    record(database, received)
    record(
        database,
        received,
        sop_instance_uid="1.2.3.1.2",
        order_priority=Priority.STAT,
    )
    record(database, received, sop_instance_uid="1.2.3.1.3")

    assert study(database).order_priority is Priority.STAT


def test_a_study_that_grew_since_the_judgement_is_not_settled(database, received):
    record(database, received)
    seen = study(database)
    record(database, received, sop_instance_uid="1.2.3.1.2", sha256="c" * 64)

    with database.write() as connection:
        settled = studies.settle_study(
            connection,
            seen.id,
            reason="quiet",
            content=studies.content_set_of(connection, seen.id),
            expected_instances=seen.instance_count,
        )

    assert not settled
    assert study(database).state is StudyState.RECEIVING


def test_a_settled_content_set_lists_its_instances(database, received):
    record(database, received)
    settle(database)

    with database.read() as connection:
        content_set = studies.study_by_uid(connection, "1.2.3").content_set
        (listed,) = studies.instances_of_content_set(connection, content_set)

    assert listed.sop_instance_uid == received.sop_instance_uid
    assert listed.series_instance_uid == received.series_instance_uid
    assert listed.sha256 == received.sha256
