"""A runner with a scripted reading process, and an index with one queued job."""

import sys
from pathlib import Path

import pytest

from core.settings import DestinationSettings, QueueSettings, Settings, WorkerSettings
from tests.unit.core.conftest import (  # noqa: F401 - fixtures used by name
    database,
    queued_job,
    received,
    settle_again,
)
from worker.job_runner import JobRunner
from worker.reading_process import ReadingProcess

READER = Path(__file__).parent / "scripted_reader.py"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        data_dir=tmp_path,
        queue=QueueSettings(heartbeat_s=0.05),
        worker=WorkerSettings(time_limit_s=20.0),
        destinations=(DestinationSettings(name="pacs"),),
    )


@pytest.fixture
def script(tmp_path: Path):
    """Say what the process does at each request; `answer` when nothing is left."""
    path = tmp_path / "script"

    def write(*words: str) -> None:
        path.write_text(" ".join(words))

    write()
    return write


@pytest.fixture
def make_process(tmp_path: Path, script):
    made: list[ReadingProcess] = []

    def make(settings: Settings) -> ReadingProcess:
        process = ReadingProcess(
            settings, [sys.executable, str(READER), str(tmp_path / "script")]
        )
        made.append(process)
        return process

    yield make
    for process in made:
        process.kill()


@pytest.fixture
def runner(settings, database, make_process):  # noqa: F811
    return JobRunner(settings, make_process)
