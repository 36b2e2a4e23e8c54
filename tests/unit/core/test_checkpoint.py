import shutil
from pathlib import Path

from sqlalchemy.engine import make_url

from core.database import studies
from core.database.checkpoint import PAUSE_S, Checkpoints
from core.database.engine import Database, open_database
from core.received import ReceivedInstance
from core.settings import Settings


def test_what_was_committed_is_in_the_file_after_a_checkpoint(
    database: Database, settings: Settings, received: ReceivedInstance, tmp_path: Path
) -> None:
    with database.write() as connection:
        studies.record_instance(connection, received)

    pause_s = Checkpoints(database).step()

    assert pause_s == PAUSE_S
    file = Path(make_url(settings.database_url).database or "")
    alone = Settings(data_dir=tmp_path / "copy")
    target = Path(make_url(alone.database_url).database or "")
    target.parent.mkdir(parents=True)
    shutil.copy(file, target)
    copy = open_database(alone)
    with copy.read() as connection:
        assert studies.study_by_uid(connection, received.study_instance_uid)
    copy.close()


def test_a_checkpoint_waits_for_no_reader_and_no_writer(
    database: Database, received: ReceivedInstance
) -> None:
    with database.read() as reader, database.write() as connection:
        studies.study_by_uid(reader, received.study_instance_uid)
        studies.record_instance(connection, received)

        Checkpoints(database).step()

    with database.read() as connection:
        assert studies.study_by_uid(connection, received.study_instance_uid)
