"""The worklist says of every study what it needs, and finds it again."""

import pytest
from sqlalchemy import select

from benchmarks.worklist import full_worklist
from core.assessment import Decision
from core.database import jobs, studies, worklist
from core.database.worklist import WorklistFilter
from core.settings import Priority
from dicom_node.forgetting import forget_study
from review.patient import shown_age, shown_date, shown_name
from review.worklist_writer import WorklistWriter
from tests.read_studies import not_analysed, pneumonia


@pytest.fixture
def writer(installation):
    return WorklistWriter(installation.database, installation.store)


@pytest.fixture
def page(installation, writer):
    """Bring the list up to date and return a page of it."""

    def page(*, size=50, **wanted):
        writer.catch_up()
        with installation.database.read() as connection:
            return worklist.page(connection, WorklistFilter(**wanted), size=size)

    return page


def states(found):
    return [row.state for row in found.rows]


def fail(installation, job_id):
    with installation.database.write() as connection:
        jobs.fail(
            connection, job_id, lease_token=None, reason="memory", explanation="x",
            report_failure=False,
        )  # fmt: skip


def test_every_study_is_in_the_list_whatever_became_of_it(
    installation, page, look, decide
):
    installation.receive(installation.image("receiving"))
    installation.queue(installation.receive(installation.image("waiting")))
    failed = installation.queue(installation.receive(installation.image("failed")))
    fail(installation, failed)
    image = installation.image("adult")
    job_id = installation.queue(installation.receive(image))
    installation.report(job_id, image, not_analysed(image))
    installation.read("unreviewed", probability=0.02)
    for decision in (Decision.ACCEPTED, Decision.REJECTED, Decision.WITHDRAWN):
        decide(look(installation.read(str(decision))), decision)

    assert states(page()) == [
        "unreviewed", "failed", "waiting", "receiving", "not analysed", "rejected",
        "accepted", "withdrawn",
    ]  # fmt: skip


def test_what_to_read_first_is_stat_then_present_then_what_waits_longest(
    installation, page
):
    for seed, probability, at, priority in (
        ("late absent", 0.1, 30.0, Priority.ROUTINE),
        ("late present", 0.9, 20.0, Priority.ROUTINE),
        ("early present", 0.6, 10.0, Priority.ROUTINE),
        ("stat absent", 0.1, 40.0, Priority.STAT),
    ):
        image = installation.image(seed, StudyDescription=seed)
        job_id = installation.queue(
            installation.receive(image, at=at), priority=priority
        )
        installation.report(job_id, image, pneumonia(image, probability))

    assert [row.study_description for row in page().rows] == [
        "stat absent", "early present", "late present", "late absent",
    ]  # fmt: skip


def test_a_decision_and_its_undo_show_within_a_step(
    installation, page, look, decide, desk
):
    uid = installation.read("one")
    assert states(page()) == ["unreviewed"]
    decide(look(uid))
    assert states(page()) == ["accepted"]
    assert page().rows[0].why == "by Jane Doe"

    from tests.unit.review.test_decisions import ME

    desk.undo(look(uid), 1, ME)

    assert states(page()) == ["unreviewed"]


def test_a_retried_and_a_dismissed_job_show(installation, page):
    job_id = installation.queue(installation.receive(installation.image("one")))
    fail(installation, job_id)
    assert states(page()) == ["failed"]

    with installation.database.write() as connection:
        jobs.retry(connection, job_id)
    assert states(page()) == ["waiting"]
    with installation.database.write() as connection:
        jobs.dismiss(connection, job_id)
    assert states(page()) == ["not analysed"]


@pytest.mark.parametrize(
    "text",
    ["müller", "MULLER", "hans", "pid-7", "acc-9", "ankle", "muller ankle", "太郎"],
)
def test_a_search_finds_by_name_id_accession_and_description(installation, page, text):
    image = installation.image(
        "one", SpecificCharacterSet="ISO_IR 192", PatientName="Müller^Hans=山田^太郎",
        PatientID="PID-7", AccessionNumber="ACC-9", StudyDescription="Ankle",
    )  # fmt: skip
    installation.receive(image)
    installation.receive(installation.image("two", PatientName="Roe^Ann"))

    found = page(text=text)

    assert [row.patient_id for row in found.rows] == ["PID-7"]


@pytest.mark.parametrize("text", ["%", "_", "' OR 1=1 --", "\\"])
def test_what_is_searched_for_is_text_and_no_pattern(installation, page, text):
    installation.receive(installation.image("one"))

    assert page(text=text).rows == []


def test_the_counts_by_state_stay_while_one_state_is_looked_at(
    installation, page, look, decide
):
    decide(look(installation.read("one")))
    installation.read("two")

    found = page(state="accepted")

    assert states(found) == ["accepted"]
    assert found.by_state == {"accepted": 1, "unreviewed": 1}


def test_pages_hold_every_study_once_and_past_the_end_is_the_last(installation, page):
    for number in range(7):
        installation.receive(installation.image(str(number)))

    seen = [
        row.study_id
        for number in (1, 2, 3)
        for row in page(size=3, page=number, sort="newest").rows
    ]

    assert len(seen) == len(set(seen)) == 7
    assert page(size=3, page=99).page == 3


def test_a_writer_that_starts_anew_goes_on_where_the_last_one_was(installation, page):
    installation.read("one")
    page()
    installation.read("two")

    again = WorklistWriter(installation.database, installation.store)
    again.catch_up()

    with installation.database.read() as connection:
        assert worklist.page(connection, WorklistFilter()).total == 2


def test_a_forgotten_study_leaves_the_list_with_its_names(installation, page):
    uid = installation.read("one")
    assert page().total == 1

    forget_study(installation.database, installation.store, uid)

    assert page().total == 0


def test_a_file_that_cannot_be_read_leaves_a_row_without_a_name(installation, page):
    image = installation.image("one")
    uid = installation.receive(image)
    with installation.database.read() as connection:
        row = studies.study_by_uid(connection, uid)
        assert row is not None
        sha256 = studies.first_instance(connection, row.id)
    assert sha256 is not None
    installation.store.path_of(sha256).write_bytes(b"no DICOM")

    (shown,) = page(text=uid).rows

    assert shown.patient_name == ""


def test_priors_are_the_patients_other_studies_and_none_without_an_id(
    installation, page
):
    for seed, patient in (("a", "P1"), ("b", "P1"), ("c", "P2"), ("d", ""), ("e", "")):
        installation.receive(installation.image(seed, PatientID=patient))
    rows = {row.study_id: row for row in page(sort="oldest").rows}
    first, *_, last = sorted(rows)

    with installation.database.read() as connection:
        of_first = worklist.priors(connection, first, "P1")
        of_last = worklist.priors(connection, last, "")

    assert [row.patient_id for row in of_first] == ["P1"]
    assert list(of_last) == []


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ("Doe^Jane", "Doe, Jane"),
        ("Doe^Jane^Q^Dr.", "Doe, Jane Q Dr."),
        ("Yamada^Tarou=山田^太郎=やまだ", "Yamada, Tarou (山田, 太郎; やまだ)"),
        ("=山田^太郎", "山田, 太郎"),
        ("", ""),
    ],
)
def test_a_name_is_shown_with_all_its_groups(stored, shown):
    assert shown_name(stored) == shown


def test_dates_and_ages_are_shown_and_nonsense_is_not_computed_with():
    assert shown_date("20240229") == "2024-02-29"
    assert shown_date("?") == "?"
    assert shown_age("20200301", "20260228") == "5 y"
    assert shown_age("20250601", "20260228") == "8 mo"
    assert shown_age("20270101", "20260228") == ""
    assert shown_age("", "20260228") == ""


@pytest.mark.parametrize("sort", list(worklist.SORTS))
def test_a_page_is_read_from_the_index_of_its_order(installation, sort):
    """So a page of a hundred thousand studies costs as much as one of a hundred."""
    query = (
        select(worklist.worklist).order_by(*worklist.SORTS[sort]).limit(50)
    ).compile(installation.database.engine, compile_kwargs={"literal_binds": True})

    with installation.database.read() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}").all()

    told = " ".join(row.detail for row in plan)
    assert "USING INDEX" in told
    assert "TEMP B-TREE" not in told


def test_a_search_reads_one_index_and_no_table(installation):
    query = (
        "SELECT state, count(*) FROM worklist WHERE instr(search_text, 'doe') > 0 "
        "GROUP BY state"
    )

    with installation.database.read() as connection:
        (plan,) = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}").all()

    assert "COVERING INDEX ix_worklist_search" in plan.detail


def test_a_full_list_has_every_study_and_finds_each(installation):
    full_worklist(installation.database, 1000)

    with installation.database.read() as connection:
        everything = worklist.page(connection, WorklistFilter())
        one = worklist.page(connection, WorklistFilter(text="ACC0000543"))
        many = worklist.page(connection, WorklistFilter(text="MULLER hans"))

    assert everything.total == 1000
    assert [row.accession_number for row in one.rows] == ["ACC0000543"]
    assert 0 < many.total < 100
    assert all("Müller, Hans" in row.patient_name for row in many.rows)
