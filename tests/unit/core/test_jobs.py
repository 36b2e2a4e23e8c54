import pytest

from core.database import deliveries, failure_reports, jobs, outbox, reports
from core.database.reports import NewReport
from core.errors import IllegalTransition
from core.lifecycle import DeliveryState, JobState


def document(job, uid="2.25.7", kind="reading"):
    return NewReport(
        study_id=job.study_id,
        job_id=job.id,
        document_kind=kind,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34",
        sop_instance_uid=uid,
        series_instance_uid="2.25.8",
        sha256="9" * 64,
        bytes=100,
        predecessor_id=None,
    )


def claim(database, job_id, worker="w1"):
    with database.write() as connection:
        return jobs.claim(connection, job_id, worker=worker)


def job(database, job_id):
    with database.read() as connection:
        row = jobs.job_by_id(connection, job_id)
    assert row is not None
    return row


def give_back(database, held, reason="worker died", **options):
    with database.write() as connection:
        return jobs.give_back(
            connection,
            held.job_id,
            held.lease_token,
            reason=reason,
            explanation="",
            maximum_attempts=3,
            **options,
        )


def finish(database, held, uid="2.25.7"):
    with database.write() as connection:
        assert jobs.commit_reading(
            connection, held, reading="{}", outcome="analysed", timings={}
        )
        return jobs.store_report(
            connection, held, [(document(held.job, uid), ("pacs",))], timings={}
        )


def announced(database):
    with database.read() as connection:
        return [entry.job_id for entry in outbox.unpublished(connection)]


def test_the_same_reading_is_asked_for_only_once(database, queued_job):
    row = job(database, queued_job)
    with database.write() as connection:
        again = jobs.add_job(
            connection,
            jobs.NewJob(
                study_id=row.study_id,
                model=row.model,
                model_version=row.model_version,
                bundle_sha256=row.bundle_sha256,
                content_set=row.content_set,
                rule="another rule",
                destinations=(),
                priority=row.priority,
            ),
        )

    assert again is None
    assert announced(database) == [queued_job]


def test_a_job_is_claimed_by_one_worker_only(database, queued_job):
    first, second = claim(database, queued_job), claim(database, queued_job, "w2")

    assert first is not None
    assert second is None
    assert job(database, queued_job).worker == "w1"


def test_the_attempt_is_counted_before_anything_runs(database, queued_job):
    claim(database, queued_job)

    assert job(database, queued_job).attempts == 1


def test_a_worker_whose_lease_was_taken_back_changes_nothing(database, queued_job):
    frozen = claim(database, queued_job)
    give_back(database, frozen)
    successor = claim(database, queued_job, "w2")

    with database.write() as connection:
        assert not jobs.beat(connection, frozen)
        assert not jobs.set_child(connection, frozen, 1)
        assert not jobs.commit_reading(
            connection, frozen, reading="stale", outcome="analysed", timings={}
        )
        assert not jobs.store_report(
            connection, frozen, [(document(frozen.job), ("pacs",))], timings={}
        )
    assert job(database, queued_job).lease_token == successor.lease_token
    assert job(database, queued_job).reading is None
    with database.read() as connection:
        assert reports.reports_of_study(connection, frozen.job.study_id) == []


def test_a_finished_job_has_one_report_and_a_due_delivery(database, queued_job):
    held = claim(database, queued_job)

    assert finish(database, held)

    assert job(database, queued_job).state is JobState.REPORTED
    with database.read() as connection:
        (delivery,) = deliveries.due(connection, now=2e10)
    assert (delivery.destination, delivery.state) == ("pacs", DeliveryState.WAITING)


def test_a_job_given_back_after_its_reading_keeps_the_reading(database, queued_job):
    held = claim(database, queued_job)
    with database.write() as connection:
        jobs.commit_reading(
            connection, held, reading='{"a": 1}', outcome="analysed", timings={}
        )

    give_back(database, held)

    again = claim(database, queued_job, "w2")
    assert again.job.reading == '{"a": 1}'


def test_a_poison_job_fails_after_the_last_attempt_with_its_reason(
    database, queued_job
):
    for expected in (JobState.QUEUED, JobState.QUEUED, JobState.FAILED):
        assert give_back(database, claim(database, queued_job)) is expected

    row = job(database, queued_job)
    assert (row.attempts, row.reason, row.outcome) == (3, "worker died", "failed")
    assert claim(database, queued_job) is None


def test_an_attempt_that_we_ended_ourselves_is_not_counted(database, queued_job):
    give_back(database, claim(database, queued_job), "stopped", count_attempt=False)

    assert job(database, queued_job).attempts == 0


@pytest.fixture
def failed_job(database, queued_job):
    for _ in range(3):
        give_back(database, claim(database, queued_job))
    return queued_job


def claim_failure_report(database, job_id):
    with database.write() as connection:
        return failure_reports.claim(connection, job_id, worker="w1")


def test_the_report_of_a_failure_is_written_by_one_worker_only(database, failed_job):
    first = claim_failure_report(database, failed_job)
    second = claim_failure_report(database, failed_job)

    with database.write() as connection:
        stored = failure_reports.store(
            connection, first, [(document(first.job, kind="failure"), ())]
        )

    assert second is None
    assert stored
    assert job(database, failed_job).failure_report is None


def test_a_failures_report_whose_writer_died_is_tried_once_more_and_then_left(
    database, failed_job
):
    for expected in ("pending again", None):
        held = claim_failure_report(database, failed_job)
        assert held.lease_token in [beat.lease_token for beat in leases(database)]
        with database.write() as connection:
            assert failure_reports.release(connection, held.job_id, held.lease_token)
        assert job(database, failed_job).failure_report == expected

    assert claim_failure_report(database, failed_job) is None
    assert job(database, failed_job).state is JobState.FAILED


def leases(database):
    with database.read() as connection:
        return jobs.leases(connection)


def test_a_failures_report_whose_message_was_lost_is_announced_again(
    database, failed_job
):
    with database.write() as connection:
        for entry in outbox.unpublished(connection):
            outbox.mark_published(connection, entry.id)

        assert outbox.republish_stale(connection, older_than_s=-1) == 1


def test_a_late_failure_report_is_not_stored_over_a_retry(database, failed_job):
    taken = claim_failure_report(database, failed_job)
    with database.write() as connection:
        jobs.retry(connection, failed_job)

        stored = failure_reports.store(
            connection, taken, [(document(taken.job, kind="failure"), ())]
        )

    assert not stored


def test_the_time_in_a_report_stays_when_the_report_is_written_again(
    database, queued_job
):
    held = claim(database, queued_job)
    with database.write() as connection:
        jobs.commit_reading(
            connection, held, reading="{}", outcome="analysed", timings={}
        )
    first = job(database, queued_job).inferred_at
    give_back(database, held)

    again = claim(database, queued_job)
    with database.write() as connection:
        jobs.commit_reading(
            connection, again, reading="{}", outcome="analysed", timings={}
        )

    assert job(database, queued_job).inferred_at == first


def test_a_retry_starts_the_count_again_and_announces_the_job(database, queued_job):
    for _ in range(3):
        give_back(database, claim(database, queued_job))

    with database.write() as connection:
        jobs.retry(connection, queued_job)

    assert job(database, queued_job).attempts == 0
    assert queued_job in announced(database)


def test_a_running_job_cannot_be_retried_or_dismissed(database, queued_job):
    claim(database, queued_job)

    for action in (jobs.retry, jobs.dismiss):
        with (
            pytest.raises(IllegalTransition, match="is running"),
            database.write() as connection,
        ):
            action(connection, queued_job)


def test_a_job_waits_for_the_older_one_of_its_study_and_is_announced_after_it(
    database, queued_job, settle_again
):
    held = claim(database, queued_job)
    late = settle_again(2)
    with database.write() as connection:
        for entry in outbox.unpublished(connection):
            outbox.mark_published(connection, entry.id)

    refused = claim(database, late)
    finish(database, held)

    assert refused is None
    assert announced(database) == [late]
    assert claim(database, late) is not None


def test_the_newest_report_of_a_model_is_the_predecessor(
    database, queued_job, settle_again
):
    finish(database, claim(database, queued_job), "2.25.7")
    finish(database, claim(database, settle_again(2)), "2.25.9")
    row = job(database, queued_job)

    with database.read() as connection:
        newest = reports.newest_report(
            connection,
            row.study_id,
            model="lung",
            sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34",
        )

    assert newest is not None
    assert newest.sop_instance_uid == "2.25.9"


def test_a_lost_message_is_sent_again_only_for_jobs_that_still_wait(
    database, queued_job
):
    with database.write() as connection:
        for entry in outbox.unpublished(connection):
            outbox.mark_published(connection, entry.id)
        assert outbox.republish_stale(connection, older_than_s=3600) == 0
        assert outbox.republish_stale(connection, older_than_s=-1) == 1
        assert outbox.republish_stale(connection, older_than_s=-1) == 0
    assert announced(database) == [queued_job]
    claim(database, queued_job)

    with database.write() as connection:
        for entry in outbox.unpublished(connection):
            outbox.mark_published(connection, entry.id)
        assert outbox.republish_stale(connection, older_than_s=-1) == 0
