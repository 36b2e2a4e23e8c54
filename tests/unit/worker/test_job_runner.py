import threading
import time
from dataclasses import replace

import pytest

from core.database import deliveries, jobs, reports, studies
from core.database.engine import open_database
from core.lifecycle import DeliveryState, JobState
from core.settings import DestinationSettings, ReportSettings, ReviewSettings
from tests.unit.core.conftest import settle
from worker.job_runner import JobRunner


def job(database, job_id):
    with database.read() as connection:
        row = jobs.job_by_id(connection, job_id)
    assert row is not None
    return row


def stored_reports(database):
    with database.read() as connection:
        study = studies.study_by_uid(connection, "1.2.3")
        return reports.reports_of_study(connection, study.id)


def due(database):
    with database.read() as connection:
        return deliveries.due(connection, now=2e10)


def test_a_job_ends_with_one_report_on_its_way_to_every_destination(
    runner, database, queued_job
):
    runner.run(queued_job)

    assert job(database, queued_job).state is JobState.REPORTED
    assert len(stored_reports(database)) == 1
    assert [entry.destination for entry in due(database)] == ["pacs"]


def test_a_message_that_comes_twice_makes_one_report(runner, database, queued_job):
    runner.run(queued_job)
    runner.run(queued_job)

    assert job(database, queued_job).attempts == 1
    assert len(stored_reports(database)) == 1


def test_a_forged_job_id_does_nothing(runner, database, queued_job):
    runner.run(987654)

    assert job(database, queued_job).state is JobState.QUEUED


def test_a_death_while_reading_costs_one_attempt_and_the_job_waits_again(
    runner, database, queued_job, script
):
    script("die")

    runner.run(queued_job)

    row = job(database, queued_job)
    assert (row.state, row.attempts, row.reason) == (JobState.QUEUED, 1, "worker died")


def test_a_reading_that_was_committed_is_not_made_again(
    runner, database, queued_job, script
):
    script("answer", "die")  # the reading succeeds, the report's writer dies
    runner.run(queued_job)
    assert job(database, queued_job).reading is not None

    script("answer")  # one request is enough: the report
    runner.run(queued_job)

    assert job(database, queued_job).state is JobState.REPORTED
    assert len(stored_reports(database)) == 1


@pytest.mark.parametrize("word", ["die", "memory"])
def test_a_poison_study_fails_after_three_attempts_and_a_report_says_so(
    runner, database, queued_job, script, word
):
    for _ in range(3):
        script(word)
        runner.run(queued_job)
    assert job(database, queued_job).state is JobState.FAILED

    script()
    runner.run(queued_job)

    (report,) = stored_reports(database)
    assert report.document_kind == "failure"
    assert job(database, queued_job).state is JobState.FAILED
    assert len(due(database)) == 1


def test_a_site_that_keeps_failures_to_itself_gets_no_report_of_them(
    settings, make_process, database, queued_job, script
):
    runner = JobRunner(
        settings.model_copy(update={"report": ReportSettings(failed="keep")}),
        make_process,
    )
    for _ in range(3):
        script("die")
        runner.run(queued_job)

    runner.run(queued_job)

    assert stored_reports(database) == []


def test_what_trying_again_cannot_help_fails_at_once(
    runner, database, queued_job, script
):
    script("bundle")

    runner.run(queued_job)

    row = job(database, queued_job)
    assert (row.state, row.attempts, row.reason) == (
        JobState.FAILED,
        1,
        "InvalidBundle",
    )


def test_a_worker_overtaken_while_it_reads_writes_nothing(
    runner, database, queued_job, script
):
    script("slow=3")
    thread = threading.Thread(target=runner.run, args=(queued_job,))
    thread.start()
    while job(database, queued_job).child_pid is None:
        time.sleep(0.02)
    with database.write() as connection:
        taken = jobs.job_by_id(connection, queued_job)
        jobs.give_back(
            connection,
            queued_job,
            taken.lease_token,
            reason="worker died",
            explanation="",
            maximum_attempts=3,
        )

    thread.join(timeout=20)

    row = job(database, queued_job)
    assert (row.state, row.reading) == (JobState.QUEUED, None)
    assert stored_reports(database) == []


def test_a_worker_that_is_stopped_gives_its_job_back_without_counting_it(
    runner, database, queued_job, script, monkeypatch
):
    monkeypatch.setattr("worker.job_runner._STOP_GRACE_S", 0.1)
    script("hang")
    thread = threading.Thread(target=runner.run, args=(queued_job,))
    thread.start()
    while job(database, queued_job).child_pid is None:
        time.sleep(0.02)

    runner.stop()
    thread.join(timeout=20)

    row = job(database, queued_job)
    assert (row.state, row.attempts) == (JobState.QUEUED, 0)


def test_a_stopped_worker_takes_no_job(runner, database, queued_job):
    runner.stop()

    runner.run(queued_job)

    assert job(database, queued_job).state is JobState.QUEUED


def test_each_destination_gets_the_report_class_it_can_take(
    settings, make_process, database, queued_job
):
    destinations = (
        DestinationSettings(name="pacs"),
        DestinationSettings(name="old", report_class="enhanced"),
    )
    runner = JobRunner(
        settings.model_copy(update={"destinations": destinations}), make_process
    )

    runner.run(queued_job)

    by_id = {row.id: row for row in stored_reports(database)}
    assert {
        entry.destination: by_id[entry.report_id].sop_class_uid
        for entry in due(database)
    } == {
        "pacs": "1.2.840.10008.5.1.4.1.1.88.34",
        "old": "1.2.840.10008.5.1.4.1.1.88.22",
    }


def run_side_by_side(runner, job_ids):
    threads = [threading.Thread(target=runner.run, args=(one,)) for one in job_ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=40)


@pytest.fixture
def other_job(database, received):
    """A job of another study."""
    other = replace(
        received,
        study_instance_uid="1.2.4",
        series_instance_uid="1.2.4.1",
        sop_instance_uid="1.2.4.1.1",
        sha256="c" * 64,
    )
    with database.write() as connection:
        studies.record_instance(connection, other)
    return settle(database, "1.2.4")


def test_a_death_in_company_costs_nobody_an_attempt_and_each_is_read_alone(
    runner, database, queued_job, other_job, script
):
    runner.warm_up()
    script("late-death")

    run_side_by_side(runner, [queued_job, other_job])

    for job_id in (queued_job, other_job):
        row = job(database, job_id)
        assert (row.state, row.attempts) == (JobState.REPORTED, 1)


def test_a_study_that_also_dies_alone_loses_one_attempt_and_its_neighbour_none(
    runner, database, queued_job, other_job, script
):
    runner.warm_up()
    script("late-death", "die")

    run_side_by_side(runner, [queued_job, other_job])

    rows = [job(database, job_id) for job_id in (queued_job, other_job)]
    assert sorted((row.state, row.attempts) for row in rows) == [
        (JobState.QUEUED, 1),
        (JobState.REPORTED, 1),
    ]


def test_two_jobs_are_in_one_process_only_once_its_models_are_warm(
    runner, database, queued_job, other_job, script
):
    script("slow=1")
    thread = threading.Thread(target=runner.run, args=(queued_job,))
    thread.start()
    while job(database, queued_job).child_pid is None:
        time.sleep(0.02)
    second = threading.Thread(target=runner.run, args=(other_job,))
    second.start()
    time.sleep(0.3)

    assert job(database, other_job).state is JobState.QUEUED

    thread.join(timeout=20)
    second.join(timeout=20)
    assert job(database, other_job).state is JobState.REPORTED


def test_what_the_model_package_says_of_its_time_ends_a_reading(
    runner, database, queued_job, script, tmp_path
):
    (tmp_path / "script.limit").write_text("0.3")
    script("hang")
    began = time.monotonic()

    runner.run(queued_job)

    row = job(database, queued_job)
    assert (row.state, row.attempts, row.reason) == (JobState.QUEUED, 1, "time limit")
    assert "0.3 s" in row.explanation
    assert time.monotonic() - began < 15


def test_the_start_of_a_process_does_not_count_as_reading(
    runner, database, queued_job, tmp_path
):
    (tmp_path / "script.limit").write_text("2")
    (tmp_path / "script.start").write_text("3")

    runner.run(queued_job)

    row = job(database, queued_job)
    assert row.state is JobState.REPORTED
    assert row.timings["start"] >= 3


def test_a_job_keeps_the_seconds_of_every_stage(runner, database, queued_job):
    runner.run(queued_job)

    timings = job(database, queued_job).timings
    assert set(timings) == {"queued", "start", "infer", "report"}
    assert all(seconds >= 0 for seconds in timings.values())


def test_a_late_instances_report_names_the_former_one(
    runner, database, queued_job, settle_again
):
    runner.run(queued_job)
    late = settle_again(2)

    runner.run(late)

    first, second = stored_reports(database)
    assert second.predecessor_id == first.id


def test_two_workers_of_one_installation_are_one_device(settings, make_process):
    first = JobRunner(settings, make_process)
    second = JobRunner(settings, make_process)

    assert first._installation_uid == second._installation_uid
    assert open_database(settings)


@pytest.mark.parametrize("held", ["*", "lung"])
def test_a_report_of_a_held_model_waits_for_a_reader(
    settings, make_process, database, queued_job, held
):
    review = ReviewSettings(hold=(held,))
    runner = JobRunner(settings.model_copy(update={"review": review}), make_process)

    runner.run(queued_job)

    assert due(database) == []
    with database.read() as connection:
        study = studies.study_by_uid(connection, "1.2.3")
        (row,) = deliveries.deliveries_of_study(connection, study.id)
    assert row.state is DeliveryState.HELD


def test_a_report_of_a_failure_is_not_held(
    settings, make_process, database, queued_job, script
):
    review = ReviewSettings(hold=("*",))
    runner = JobRunner(settings.model_copy(update={"review": review}), make_process)
    for _ in range(3):
        script("die")
        runner.run(queued_job)

    script()
    runner.run(queued_job)

    assert len(due(database)) == 1
