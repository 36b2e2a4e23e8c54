import json
import re
from pathlib import Path

from sqlalchemy import func, select

from core.database import events
from core.database.jobs import job_by_id
from core.database.schema import event, instance, job, report
from core.lifecycle import JobState
from tests.unit.cli.conftest import ANALYSED, NOT_ANALYSED


def test_studies_of_an_installation_that_never_ran_are_none(secondread, data_dir):
    result = secondread("studies", "--json")

    assert result.exit_code == 0
    assert json.loads(result.stdout) == []
    assert not data_dir.exists()


def test_studies_tells_where_each_stands(secondread, index):
    index.report("1.2.1", NOT_ANALYSED)

    result = secondread("studies")

    assert result.exit_code == 0
    assert re.search(
        r"1\.2\.1 +DX +1 +not analysed +lung: wrong-modality", result.stdout
    )


def test_studies_can_be_filtered_by_state(secondread, index):
    index.fail("1.2.1")
    index.report("1.2.2", ANALYSED)

    result = secondread("studies", "--state", "failed", "--json")

    assert [line["study_instance_uid"] for line in json.loads(result.stdout)] == [
        "1.2.1"
    ]


def test_an_unknown_state_is_a_usage_error(secondread):
    result = secondread("studies", "--state", "lost")

    assert result.exit_code == 2
    assert "receiving" in result.stderr


def test_show_prints_findings_timeline_and_deliveries(secondread, index):
    index.report("1.2.1", ANALYSED)

    result = secondread("show", "1.2.1")

    assert result.exit_code == 0
    assert re.search(r"Pneumonia +present +0\.900 +0\.500", result.stdout)
    assert re.search(r"settled +quiet for 1 s", result.stdout)
    assert re.search(r"pacs +delivered +1 +0000 success", result.stdout)


def test_show_as_json_holds_the_reading_and_no_lease(secondread, index):
    index.report("1.2.1", ANALYSED)

    document = json.loads(secondread("show", "1.2.1", "--json").stdout)

    assert document["jobs"][0]["reading"]["findings"][0]["probability"] == 0.9
    assert "lease_token" not in document["jobs"][0]
    assert document["timeline"][0]["since_start_s"] == 0


def test_show_of_an_unknown_study_fails_with_a_hint(index, in_a_process):
    index.receive("1.2.1")

    result = in_a_process("show", "9.9")

    assert result.returncode == 1
    assert "`secondread studies` lists them" in result.stderr
    assert "Traceback" not in result.stderr


def test_show_of_an_ambiguous_study_names_the_candidates(index, in_a_process):
    index.receive("1.2.1")
    index.receive("1.2.2")

    result = in_a_process("show", "1.2")

    assert result.returncode == 1
    assert "1.2.1" in result.stderr
    assert "1.2.2" in result.stderr


def test_jobs_lists_the_newest_first(secondread, index):
    first = index.fail("1.2.1")
    second = index.fail("1.2.2")

    result = secondread("jobs", "--json")

    assert [line["id"] for line in json.loads(result.stdout)] == [second, first]


def test_retry_queues_a_failed_job_again(secondread, index):
    job_id = index.fail("1.2.1")

    result = secondread("retry", str(job_id))

    assert result.exit_code == 0
    with index.database.read() as connection:
        row = job_by_id(connection, job_id)
    assert row is not None
    assert (row.state, row.attempts) == (JobState.QUEUED, 0)


def test_retry_failed_takes_jobs_and_deliveries(secondread, index):
    job_id = index.fail("1.2.1")
    index.report("1.2.2", ANALYSED, delivered=False)

    result = secondread("retry", "--failed", "--json")

    assert json.loads(result.stdout) == {"jobs": [job_id], "deliveries": [1]}


def test_retry_of_one_delivery_leaves_the_others(secondread, index):
    index.report("1.2.1", ANALYSED, delivered=False)
    index.report("1.2.2", ANALYSED, delivered=False)

    secondread("retry", "--delivery", "2")

    states = json.loads(secondread("studies", "--json").stdout)
    standing = {line["study_instance_uid"]: line["standing"] for line in states}
    assert standing == {"1.2.1": "failed", "1.2.2": "waiting"}


def test_retry_of_a_reported_job_changes_nothing(index, in_a_process):
    index.report("1.2.1", ANALYSED)

    result = in_a_process("retry", "1")

    assert result.returncode == 1
    assert "job 1 is reported" in result.stderr


def test_retry_without_a_choice_is_a_usage_error(secondread, index):
    assert secondread("retry").exit_code == 2
    assert secondread("retry", "1", "--failed").exit_code == 2


def test_forget_asks_before_it_deletes(secondread, index):
    index.report("1.2.1", ANALYSED)

    result = secondread("forget", "1.2.1", input="n\n")

    assert result.exit_code == 1
    assert len(json.loads(secondread("studies", "--json").stdout)) == 1


def test_forget_removes_rows_and_files(secondread, index, data_dir):
    index.report("1.2.1", ANALYSED)
    index.report("1.2.2", ANALYSED)
    files = {number: _object_file(data_dir, number) for number in (1, 2)}

    result = secondread("forget", "1.2.1", "--yes")

    assert result.exit_code == 0
    assert not files[1].exists()
    assert files[2].exists()
    with index.database.read() as connection:
        for table in (instance, job, report):
            assert (
                connection.execute(select(func.count()).select_from(table)).scalar()
                == 1
            )
        owners = connection.execute(select(event.c.study_id).distinct()).scalars().all()
    assert owners == [2]


def _object_file(data_dir: Path, number: int) -> Path:
    sha256 = f"{number:064x}"
    path = data_dir / "objects" / sha256[:2] / f"{sha256}.dcm"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def test_dismiss_closes_a_failed_job_and_retry_opens_it_again(secondread, index):
    job_id = index.fail("1.2.1")

    assert secondread("dismiss", str(job_id)).exit_code == 0
    with index.database.read() as connection:
        assert job_by_id(connection, job_id).state is JobState.DISMISSED
    assert secondread("retry", str(job_id)).exit_code == 0


def test_a_number_that_no_job_has_is_told_as_such_and_not_as_a_bug(index, in_a_process):
    for command in ("retry", "dismiss"):
        result = in_a_process(command, "99")

        assert result.returncode == 1
        assert "job 99 does not exist" in result.stderr
        assert "should not happen" not in result.stderr


def test_a_study_that_is_held_back_says_what_is_missing(secondread, index):
    index.receive("1.2.1")
    with index.database.write() as connection:
        events.record(connection, 1, "waiting", detail="missing: 2 instances or more")

    result = secondread("studies", "--json")

    (line,) = json.loads(result.stdout)
    assert line["why"] == "missing: 2 instances or more"
