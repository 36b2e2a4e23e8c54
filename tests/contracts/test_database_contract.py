"""One index, two databases: the same promises on SQLite and on PostgreSQL."""

import os
import pwd
import shutil
import subprocess
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, event, text

from core.assessment import Decision, assess
from core.database import (
    accounts,
    assessments,
    audit,
    deliveries,
    jobs,
    outbox,
    shelves,
    studies,
    worklist,
)
from core.database import engine as engine_module
from core.database.accounts import NewAccount, Role
from core.database.assessments import NewAssessment
from core.database.engine import open_database
from core.database.schema import metadata
from core.database.studies import Recorded
from core.database.uid_filter import UidFilter
from core.errors import AlreadyAssessed, StoreUnavailable
from core.settings import DatabaseSettings, Settings
from tests.assessments import READER
from tests.reports import analysed, finding, radiograph
from tests.unit.core.conftest import RECEIVED, settle
from tests.unit.core.test_jobs import claim, document, finish, give_back, job

pytestmark = pytest.mark.integration

MIGRATIONS = Path(engine_module.__file__).parent / "migrations"
FIRST_RELEASE = """
INSERT INTO study (study_instance_uid, state, content_set, order_priority,
    calling_ae_title, called_ae_title, peer_address, instance_count,
    first_instance_at, last_instance_at)
  VALUES ('1.2.3', 'settled', 'cc', 'routine', 'MODALITY', 'SECONDREAD',
    '127.0.0.1', 3, 1.0, 2.0);
INSERT INTO series (study_id, series_instance_uid, modality)
  SELECT id, '1.2.3.1', 'DX' FROM study;
INSERT INTO instance (study_id, series_id, sop_instance_uid, sop_class_uid,
    transfer_syntax_uid, sha256, bytes, is_image, own_result, received_at)
  SELECT study_id, series.id, '1.2.3.1.' || number, '1.2', '1.2.840.10008.1.2.1',
    '000000000000000000000000000000000000000000000000000000000000000' || number,
    1000, true, false, 1.0
  FROM series, (SELECT 1 AS number UNION SELECT 2 UNION SELECT 3) AS numbers;
INSERT INTO content_set_instance (content_set, instance_id)
  SELECT 'cc', id FROM instance
"""
"""What a node of that release may have written."""


def _server_programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    return found[-1].parent if found else None


@pytest.fixture(scope="module")
def postgresql_url():
    programs = _server_programs()
    if programs is None:
        pytest.skip("PostgreSQL's server (Debian package postgresql) is not installed")
    # The server refuses to run as root, so it gets the account Debian made for it.
    as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    prefix = as_user if os.geteuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    if prefix:
        account = pwd.getpwnam("postgres")
        os.chown(folder, account.pw_uid, account.pw_gid)

    def run(*command: str) -> None:
        subprocess.run(
            [*prefix, *command], check=True, capture_output=True, cwd="/", timeout=100
        )

    data = str(folder / "data")
    run(str(programs / "initdb"), "-D", data, "-U", "secondread", "--no-sync")
    options = f"-k {folder} -c listen_addresses= -c fsync=off"
    control = str(programs / "pg_ctl")
    run(control, "-D", data, "-o", options, "-l", str(folder / "log"), "-w", "start")
    yield f"postgresql+psycopg://secondread@/postgres?host={folder}"
    run(control, "-D", data, "-m", "immediate", "stop")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request, tmp_path):
    if request.param == "sqlite":
        yield Settings(data_dir=tmp_path)
        return
    url = request.getfixturevalue("postgresql_url")
    yield Settings(data_dir=tmp_path, database=DatabaseSettings(url=url))
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()


@pytest.fixture
def database(settings):
    opened = open_database(settings)
    yield opened
    opened.close()


@pytest.fixture
def queued_job(database):
    with database.write() as connection:
        studies.record_instance(connection, RECEIVED)
    return settle(database)


def test_an_index_of_the_first_release_is_taken_over(settings):
    _make_index_of_first_release(settings)

    database = open_database(settings)

    try:
        with database.read() as connection:
            row = studies.study_by_uid(connection, "1.2.3")
            assert row.instance_count == 3
            kept = studies.instances_of_content_set(connection, row.content_set)
            known = studies.known_instance(connection, "1.2.3.1.2")
        assert [entry.sop_instance_uid for entry in kept] == [
            f"1.2.3.1.{n}" for n in (1, 2, 3)
        ]
        assert known.sha256 == f"{2:064x}"
        same = replace(RECEIVED, sop_instance_uid="1.2.3.1.2", sha256=f"{2:064x}")
        with database.write() as connection:
            outcomes = studies.record_instances(
                connection,
                [
                    same,
                    replace(same, sha256="c" * 64),
                    replace(RECEIVED, sop_instance_uid="1.2.3.1.4"),
                ],
            )
        assert outcomes == [Recorded.DUPLICATE, Recorded.CONFLICT, Recorded.NEW]
    finally:
        database.close()


def _make_index_of_first_release(settings: Settings) -> None:
    engine = create_engine(settings.database_url)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        for statement in FIRST_RELEASE.split(";"):
            connection.execute(text(statement))
    engine.dispose()


def test_the_migrated_schema_is_the_one_the_code_knows(database):
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, metadata) == []


def test_a_look_up_by_uid_uses_the_index_of_shelves(database):
    if database.engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL decides by the size of the table")
    plans = []
    with database.read() as connection:

        @event.listens_for(connection, "before_cursor_execute")
        def explain(_connection, cursor, statement, parameters, *_arguments):
            cursor.execute("EXPLAIN QUERY PLAN " + statement, parameters)
            plans.extend(row[3] for row in cursor.fetchall())

        studies.known_instance(connection, "1.2.3")

    assert plans[0].startswith("SEARCH instance USING INDEX ix_instance_shelf_uid_hash")


def test_a_job_goes_from_instance_to_delivery(database, queued_job):
    finish(database, claim(database, queued_job))

    with database.read() as connection:
        (due,) = deliveries.due(connection, now=2e10)
    assert due.destination == "pacs"


def test_a_duplicate_and_a_conflict_leave_the_transaction_usable(database):
    other = replace(RECEIVED, sha256="c" * 64)
    with database.write() as connection:
        outcomes = [
            studies.record_instance(connection, one)
            for one in (RECEIVED, RECEIVED, other, other)
        ]
        late = studies.record_instance(
            connection, replace(RECEIVED, sop_instance_uid="1.2.3.1.9")
        )

    assert outcomes == [
        Recorded.NEW,
        Recorded.DUPLICATE,
        Recorded.CONFLICT,
        Recorded.CONFLICT,
    ]
    assert late is Recorded.NEW


def test_a_batch_is_one_set_of_rows(database):
    batch = [
        replace(
            RECEIVED,
            study_instance_uid=f"1.2.{n % 3}",
            series_instance_uid=f"1.2.{n % 3}.{n % 2}",
            sop_instance_uid=f"1.2.3.1.{n}",
            sha256=f"{n:064x}",
        )
        for n in range(64)
    ]
    again = [batch[7], replace(batch[8], sha256="c" * 64)]

    with database.write() as connection:
        first = studies.record_instances(connection, batch)
        second = studies.record_instances(connection, again)

    assert first == [Recorded.NEW] * 64
    assert second == [Recorded.DUPLICATE, Recorded.CONFLICT]
    with database.read() as connection:
        rows = [studies.study_by_uid(connection, f"1.2.{n}") for n in range(3)]
    assert [row.instance_count for row in rows] == [22, 21, 21]


def test_writers_at_once_record_an_instance_once(database):
    batch = [replace(RECEIVED, sop_instance_uid=f"1.2.3.1.{n}") for n in range(20)]
    outcomes = []

    def write() -> None:
        with database.write() as connection:
            outcomes.extend(studies.record_instances(connection, batch))

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert outcomes.count(Recorded.NEW) == 20
    assert outcomes.count(Recorded.DUPLICATE) == 60


def test_an_instance_on_a_full_shelf_is_still_known(database, monkeypatch):
    monkeypatch.setattr(shelves, "ROWS_OF_SHELF", 10)
    batch = [replace(RECEIVED, sop_instance_uid=f"1.2.3.1.{n}") for n in range(64)]
    filter_of_uids = UidFilter()
    filter_of_uids.load(database)

    for one in batch:
        with database.write() as connection:
            studies.record_instances(connection, [one], uids=filter_of_uids)
    with database.write() as connection:
        again = studies.record_instances(connection, batch, uids=filter_of_uids)
        without = studies.record_instances(connection, batch)
        found = shelves.shelves_from(connection, 0)

    assert again == without == [Recorded.DUPLICATE] * 64
    assert [shelf.filled for shelf in found] == [10, 10, 10, 10, 10, 10, 4]


def test_a_filter_learns_what_another_process_records(database):
    mine = UidFilter()
    mine.load(database)
    other = replace(RECEIVED, sop_instance_uid="1.2.3.1.2")
    with database.write() as connection:
        studies.record_instances(connection, [RECEIVED], uids=mine)
    with database.write() as connection:
        studies.record_instances(connection, [other])

    with database.write() as connection:
        outcomes = studies.record_instances(connection, [RECEIVED, other], uids=mine)

    assert outcomes == [Recorded.DUPLICATE] * 2


def test_a_batch_that_was_rolled_back_is_new_the_next_time(database):
    filter_of_uids = UidFilter()
    filter_of_uids.load(database)
    with database.engine.connect() as connection:
        studies.record_instances(connection, [RECEIVED], uids=filter_of_uids)
        connection.rollback()

    with database.write() as connection:
        outcomes = studies.record_instances(connection, [RECEIVED], uids=filter_of_uids)

    assert outcomes == [Recorded.NEW]


def test_only_one_of_many_workers_gets_a_job(database, queued_job):
    claims = []

    def compete(name: str) -> None:
        claims.append(claim(database, queued_job, name))

    threads = [threading.Thread(target=compete, args=(f"w{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len([held for held in claims if held is not None]) == 1


def test_a_lost_lease_writes_nothing(database, queued_job):
    frozen = claim(database, queued_job)
    give_back(database, frozen)

    with database.write() as connection:
        assert not jobs.store_report(
            connection, frozen, [(document(frozen.job), ("pacs",))], timings={}
        )

    assert job(database, queued_job).reading is None


def test_what_waits_is_announced_again(database, queued_job):
    with database.write() as connection:
        for entry in outbox.unpublished(connection):
            outbox.mark_published(connection, entry.id)
        announced_again = outbox.republish_stale(connection, older_than_s=-1)

    assert announced_again == 1


def test_the_audit_trail_is_only_added_to(database):
    with database.write() as connection:
        audit.record(connection, who="jdoe", address="127.0.0.1", action="view")

    for statement in ("UPDATE audit SET who = 'rroe'", "DELETE FROM audit"):
        with (
            pytest.raises(StoreUnavailable, match="only added to"),
            database.write() as connection,
        ):
            connection.execute(text(statement))

    with database.read() as connection:
        assert [row.who for row in audit.entries(connection)] == ["jdoe"]


def test_of_two_readers_with_the_same_next_number_one_decides(database, queued_job):
    finish(database, claim(database, queued_job))
    outcomes = []

    def compete(login: str) -> None:
        row = job(database, queued_job)
        reading = analysed(finding(0.9, radiograph()))
        reader = replace(READER, login=login)
        new = NewAssessment(
            row.study_id,
            row.id,
            1,
            assess(reading, Decision.ACCEPTED, reader),
            1.0,
            2.0,
        )
        try:
            with database.write() as connection:
                assessments.decide(connection, new, [], releases=True)
            outcomes.append("decided")
        except AlreadyAssessed:
            outcomes.append("second")

    threads = [threading.Thread(target=compete, args=(f"r{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcomes) == ["decided", "second", "second", "second"]


def test_the_worklist_is_written_and_searched(database, queued_job):
    with database.read() as connection:
        (study_id,) = worklist.receiving_studies(connection) or [1]
        last = worklist.last_event(connection)
        changed = worklist.changed_studies(connection, 0, last)
    with database.write() as connection:
        worklist.refresh(
            connection,
            study_id,
            worklist.PatientFacts(patient_name="Müller, Hans", patient_id="P1"),
            last_event_id=last,
        )

    with database.read() as connection:
        found = [
            worklist.page(connection, worklist.WorklistFilter(**wanted)).total
            for wanted in (
                {"text": "muller"},
                {"text": "roe"},
                {"modality": "DX"},
                {"state": "waiting", "sort": "patient"},
            )
        ]
        practice = worklist.practice(connection, "lung 1")
        again = worklist.changed_studies(connection, 0, last)
    assert changed == [(study_id, last)]
    assert found == [1, 0, 1, 1]
    assert (practice.answers, sum(practice.histogram)) == (0, 0)
    assert again == []


def test_a_one_time_link_makes_one_account_whoever_is_first(database):
    with database.write() as connection:
        accounts.add_invitation(connection, "token", Role.ADMIN, expires_at=2e10)
    used = []

    def use(login: str) -> None:
        with database.write() as connection:
            if accounts.use_invitation(connection, "token"):
                accounts.add_account(
                    connection, NewAccount(login, "Doe", "Jane", Role.ADMIN, "hash")
                )
                used.append(login)

    threads = [threading.Thread(target=use, args=(f"u{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with database.read() as connection:
        assert [one.login for one in accounts.accounts(connection)] == used
    assert len(used) == 1
