import pytest

from core.database import overview
from core.database.overview import Standing
from core.lifecycle import DeliveryState, JobState
from tests.unit.cli.conftest import ANALYSED, NOT_ANALYSED


def only_line(index) -> overview.StudyLine:
    with index.database.read() as connection:
        (line,) = overview.study_lines(connection)
    return line


def test_a_study_that_still_comes_in_is_receiving(index):
    index.receive("1.2.1")

    assert only_line(index).standing is Standing.RECEIVING


def test_a_queued_study_waits_and_says_for_which_model(index):
    index.receive("1.2.1")
    index.settle("1.2.1")

    line = only_line(index)

    assert line.standing is Standing.WAITING
    assert line.why == "queued for lung"


def test_a_report_on_its_way_still_waits(index):
    index.report("1.2.1", ANALYSED, delivered=None)

    line = only_line(index)

    assert line.standing is Standing.WAITING
    assert line.why == "delivery to pacs, attempt 0"


def test_a_delivered_report_makes_a_study_reported(index):
    index.report("1.2.1", ANALYSED)

    line = only_line(index)

    assert line.standing is Standing.REPORTED
    assert line.outcomes == ("analysed",)


def test_a_study_that_no_model_read_is_not_analysed_and_says_why(index):
    index.report("1.2.1", NOT_ANALYSED)

    line = only_line(index)

    assert line.standing is Standing.NOT_ANALYSED
    assert line.why == "lung: wrong-modality"


def test_a_failed_job_makes_a_study_failed_with_its_reason(index):
    index.fail("1.2.1")

    line = only_line(index)

    assert line.standing is Standing.FAILED
    assert line.why == "lung: worker died"


def test_a_failed_delivery_makes_a_study_failed_with_the_last_answer(index):
    index.report("1.2.1", ANALYSED, delivered=False)

    line = only_line(index)

    assert line.standing is Standing.FAILED
    assert line.why == "delivery to pacs: A700 out of resources"


def test_the_last_received_study_comes_first(index):
    index.receive("1.2.1", at=2000.0)
    index.receive("1.2.2", at=1000.0)
    index.receive("1.2.3", at=3000.0)

    with index.database.read() as connection:
        lines = overview.study_lines(connection)

    uids = [line.study_instance_uid for line in lines]
    assert uids == ["1.2.3", "1.2.1", "1.2.2"]


def test_a_filter_looks_beyond_the_first_page(index, monkeypatch):
    monkeypatch.setattr(overview, "_STUDIES_AT_ONCE", 2)
    index.fail("1.2.100")
    for number in range(5):
        index.receive(f"1.2.{number + 1}", at=5000.0)

    with index.database.read() as connection:
        lines = overview.study_lines(connection, standing=Standing.FAILED)

    assert [line.study_instance_uid for line in lines] == ["1.2.100"]


def test_studies_of_one_modality_can_be_listed(index):
    index.receive("1.2.1", modality="CT")
    index.receive("1.2.2", modality="DX")

    with index.database.read() as connection:
        lines = overview.study_lines(connection, modality="CT")

    assert [line.study_instance_uid for line in lines] == ["1.2.1"]


@pytest.mark.parametrize("fragment", ["1.2.34", "1.2.3", ".34"])
def test_a_study_is_found_by_its_uid_or_a_beginning_or_end_of_it(index, fragment):
    index.receive("1.2.34")
    index.receive("9.8.7")

    with index.database.read() as connection:
        assert overview.find_studies(connection, fragment) == ["1.2.34"]


def test_an_exact_uid_is_found_although_others_begin_with_it(index):
    index.receive("1.2.3")
    index.receive("1.2.34")

    with index.database.read() as connection:
        assert overview.find_studies(connection, "1.2.3") == ["1.2.3"]


def test_a_percent_sign_is_no_wildcard(index):
    index.receive("1.2.3")

    with index.database.read() as connection:
        assert overview.find_studies(connection, "%") == []


def test_the_backlog_counts_what_is_open(index):
    index.receive("1.2.1")
    index.fail("1.2.2")
    index.report("1.2.3", ANALYSED, delivered=False)

    with index.database.read() as connection:
        counted = overview.backlog(connection)

    assert counted.studies == 3
    assert counted.receiving == 1
    assert counted.jobs == {"failed": 1, "reported": 1}
    assert counted.deliveries == {"failed": 1}
    assert counted.oldest_queued_at is None


def test_jobs_and_deliveries_are_listed_by_their_state(index):
    failed = index.fail("1.2.1")
    index.report("1.2.2", ANALYSED)

    with index.database.read() as connection:
        jobs = overview.job_lines(connection, state=JobState.FAILED)
        sent = overview.delivery_lines(connection, state=DeliveryState.DELIVERED)

    assert [line.id for line in jobs] == [failed]
    assert [line.study_instance_uid for line in sent] == ["1.2.2"]


def test_a_series_is_described_by_its_instances(index):
    index.receive("1.2.1", modality="CR")

    with index.database.read() as connection:
        (line,) = overview.series_of_study(connection, 1)

    assert (line.modality, line.instances, line.bytes) == ("CR", 1, 1000)
