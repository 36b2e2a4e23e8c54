import os
import sqlite3
import subprocess
import sys
import threading

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from core.database import engine
from core.database.engine import open_database
from core.database.schema import metadata
from core.errors import StoreUnavailable
from core.settings import DatabaseSettings, Settings


def test_the_migrations_lead_to_the_schema_of_the_code(database):
    with database.read() as connection:
        difference = compare_metadata(MigrationContext.configure(connection), metadata)

    assert difference == []


def test_an_index_that_is_up_to_date_opens_without_alembic(settings, database):
    code = (
        "import sys; from core.settings import load_settings; "
        "from core.database.engine import open_database; "
        "open_database(load_settings(None)).close(); "
        "assert 'alembic' not in sys.modules"
    )
    environment = {"SECONDREAD_DATA_DIR": str(settings.data_dir)}

    subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, check=True
    )


def test_the_newest_migration_is_the_one_with_the_highest_number():
    scripts = ScriptDirectory(str(engine._MIGRATIONS))

    assert engine._newest_schema() == scripts.get_current_head()


def test_a_commit_is_on_the_disk_when_it_returns(database):
    with database.read() as connection:
        journal = connection.execute(text("PRAGMA journal_mode")).scalar()
        synchronous = connection.execute(text("PRAGMA synchronous")).scalar()

    assert (journal, synchronous) == ("wal", 2)


def test_an_index_of_a_newer_release_is_refused(settings, database):
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(StoreUnavailable, match="newer than this release"):
        open_database(settings)


def test_a_locked_database_is_an_error_that_names_the_remedy(tmp_path):
    settings = Settings(
        data_dir=tmp_path, database=DatabaseSettings(busy_timeout_s=0.05)
    )
    database = open_database(settings)
    other = sqlite3.connect(tmp_path / "index.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with (
        pytest.raises(StoreUnavailable, match="another program holds"),
        database.write(),
    ):
        pass

    other.close()
    database.close()


def test_readers_do_not_wait_for_a_writer(database):
    read = threading.Event()

    def look() -> None:
        with database.read() as connection:
            connection.execute(text("SELECT count(*) FROM study"))
        read.set()

    with database.write() as connection:
        connection.execute(text("DELETE FROM study"))
        thread = threading.Thread(target=look)
        thread.start()
        finished = read.wait(timeout=5)
    thread.join()

    assert finished


def test_a_block_that_raises_leaves_nothing(database):
    with pytest.raises(ZeroDivisionError), database.write() as connection:
        connection.execute(
            text(
                "INSERT INTO conflict (sop_instance_uid, kept_sha256, refused_sha256,"
                " calling_ae_title, peer_address, at) VALUES ('1', '', '', '', '', 0)"
            )
        )
        raise ZeroDivisionError

    with database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM conflict")).scalar() == 0
