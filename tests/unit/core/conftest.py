"""An index with one settled study and one queued job."""

from dataclasses import replace
from pathlib import Path

import pytest

from core.database import jobs, studies
from core.database.engine import Database, open_database
from core.database.jobs import NewJob
from core.received import ReceivedInstance
from core.settings import Priority, Settings

RECEIVED = ReceivedInstance(
    study_instance_uid="1.2.3",
    series_instance_uid="1.2.3.1",
    sop_instance_uid="1.2.3.1.1",
    sop_class_uid="1.2.840.10008.5.1.4.1.1.1.1",
    transfer_syntax_uid="1.2.840.10008.1.2.1",
    sha256="a" * 64,
    bytes=1000,
    modality="DX",
    is_image=True,
    own_result=False,
    order_priority=Priority.ROUTINE,
    calling_ae_title="MODALITY",
    called_ae_title="SECONDREAD",
    peer_address="127.0.0.1",
    received_at=1000.0,
)


@pytest.fixture
def received() -> ReceivedInstance:
    return RECEIVED


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


@pytest.fixture
def database(settings: Settings):
    opened = open_database(settings)
    yield opened
    opened.close()


def settle(database: Database, study_uid: str = "1.2.3", model: str = "lung") -> int:
    """Settle the study as it stands and queue one job; returns the job's id."""
    with database.write() as connection:
        study = studies.study_by_uid(connection, study_uid)
        assert study is not None
        content = studies.content_set_of(connection, study.id)
        assert studies.settle_study(
            connection,
            study.id,
            reason="quiet for 1 s",
            content=content,
            expected_instances=study.instance_count,
        )
        job_id = jobs.add_job(
            connection,
            NewJob(
                study_id=study.id,
                model=model,
                model_version="1",
                bundle_sha256="b" * 64,
                content_set=content.sha256,
                rule="all",
                destinations=("*",),
                priority=Priority.ROUTINE,
            ),
        )
    assert job_id is not None
    return job_id


@pytest.fixture
def queued_job(database: Database, received: ReceivedInstance) -> int:
    with database.write() as connection:
        studies.record_instance(connection, received)
    return settle(database)


@pytest.fixture
def settle_again(database: Database, received: ReceivedInstance):
    def late(number: int) -> int:
        with database.write() as connection:
            studies.record_instance(
                connection,
                replace(
                    received,
                    sop_instance_uid=f"1.2.3.1.{number}",
                    sha256=f"{number:x}" * 64,
                ),
            )
        return settle(database)

    return late
