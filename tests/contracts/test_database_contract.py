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
from sqlalchemy import text

from core.database import deliveries, jobs, outbox, studies
from core.database.engine import open_database
from core.database.studies import Recorded
from core.settings import DatabaseSettings, Settings
from tests.unit.core.conftest import RECEIVED, settle
from tests.unit.core.test_jobs import claim, document, finish, give_back, job

pytestmark = pytest.mark.integration


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
def database(request, tmp_path):
    if request.param == "sqlite":
        settings = Settings(data_dir=tmp_path)
    else:
        url = request.getfixturevalue("postgresql_url")
        settings = Settings(data_dir=tmp_path, database=DatabaseSettings(url=url))
    opened = open_database(settings)
    yield opened
    if request.param == "postgresql":
        with opened.write() as connection:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
    opened.close()


@pytest.fixture
def queued_job(database):
    with database.write() as connection:
        studies.record_instance(connection, RECEIVED)
    return settle(database)


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
