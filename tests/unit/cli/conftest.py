"""An installation with a small index, and the command line on it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from core.database import deliveries, jobs, studies
from core.database.engine import Database, open_database
from core.database.jobs import NewJob
from core.database.reports import NewReport
from core.domain import (
    AlgorithmIdentity,
    Analysed,
    Code,
    Finding,
    NotAnalysed,
    NotAnalysedReason,
    Presence,
    Reading,
    reading_to_json,
)
from core.received import ReceivedInstance
from core.settings import Priority, Settings

ALGORITHM = AlgorithmIdentity(
    name="lung",
    version="1",
    manufacturer="secondread",
    weights_sha256="c" * 64,
    bundle_sha256="b" * 64,
)
ANALYSED = Analysed(
    algorithm=ALGORITHM,
    images=(),
    findings=(
        Finding(
            tracking_identifier="pneumonia",
            code=Code("233604007", "SCT", "Pneumonia"),
            probability=0.9,
            threshold=0.5,
            presence=Presence.PRESENT,
        ),
    ),
)
NOT_ANALYSED = NotAnalysed(
    algorithm=ALGORITHM,
    images=(),
    reason=NotAnalysedReason.WRONG_MODALITY,
    explanation="MR found; CR or DX was expected",
)


class Index:
    """Puts studies into an index, each as far as a test needs it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._number = 0

    def receive(self, uid: str, *, modality: str = "DX", at: float = 1000.0) -> None:
        self._number += 1
        with self.database.write() as connection:
            studies.record_instance(
                connection,
                ReceivedInstance(
                    study_instance_uid=uid,
                    series_instance_uid=f"{uid}.1",
                    sop_instance_uid=f"{uid}.1.1",
                    sop_class_uid="1.2.840.10008.5.1.4.1.1.1.1",
                    transfer_syntax_uid="1.2.840.10008.1.2.1",
                    sha256=f"{self._number:064x}",
                    bytes=1000,
                    modality=modality,
                    is_image=True,
                    own_result=False,
                    order_priority=Priority.ROUTINE,
                    calling_ae_title="MODALITY",
                    called_ae_title="SECONDREAD",
                    peer_address="127.0.0.1",
                    received_at=at,
                ),
            )

    def settle(self, uid: str) -> int:
        """Settle a received study and queue its job; returns the job's id."""
        with self.database.write() as connection:
            row = studies.study_by_uid(connection, uid)
            assert row is not None
            content = studies.content_set_of(connection, row.id)
            studies.settle_study(
                connection,
                row.id,
                reason="quiet for 1 s",
                content=content,
                expected_instances=row.instance_count,
            )
            job_id = jobs.add_job(
                connection,
                NewJob(
                    study_id=row.id,
                    model="lung",
                    model_version="1",
                    bundle_sha256="b" * 64,
                    content_set=content.sha256,
                    rule="all",
                    destinations=("pacs",),
                    priority=Priority.ROUTINE,
                ),
            )
        assert job_id is not None
        return job_id

    def report(
        self, uid: str, reading: Reading, *, delivered: bool | None = True
    ) -> None:
        """Receive, settle, read and report a study; deliver it, or fail to."""
        self.receive(uid)
        job_id = self.settle(uid)
        with self.database.write() as connection:
            held = jobs.claim(connection, job_id, worker="test")
            assert held is not None
            jobs.commit_reading(
                connection,
                held,
                reading=reading_to_json(reading),
                outcome=reading.outcome,
                timings={"infer": 0.02},
            )
            document = NewReport(
                study_id=held.job.study_id,
                job_id=job_id,
                document_kind="reading",
                sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34",
                sop_instance_uid=f"{uid}.9.1",
                series_instance_uid=f"{uid}.9",
                sha256=f"{self._number:064x}",
                bytes=10,
                predecessor_id=None,
            )
            jobs.store_report(
                connection, held, [(document, ("pacs",))], timings={"infer": 0.02}
            )
            row = studies.study_by_uid(connection, uid)
            assert row is not None
            (sent,) = deliveries.deliveries_of_study(connection, row.id)
            if delivered is not None:
                deliveries.start(connection, sent.id)
            if delivered:
                deliveries.accepted(connection, sent.id, answer="0000 success")
            elif delivered is False:
                deliveries.failed(connection, sent.id, answer="A700 out of resources")

    def fail(self, uid: str) -> int:
        """Receive and settle a study whose job then fails; returns the job's id."""
        self.receive(uid)
        job_id = self.settle(uid)
        with self.database.write() as connection:
            jobs.fail(
                connection,
                job_id,
                lease_token=None,
                reason="worker died",
                explanation="3 attempts",
                report_failure=False,
            )
        return job_id


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "installation"


@pytest.fixture
def index(data_dir: Path):
    database = open_database(Settings(data_dir=data_dir))
    yield Index(database)
    database.close()


@pytest.fixture
def secondread(data_dir: Path, monkeypatch: pytest.MonkeyPatch):
    """Run a command on the installation, in this process."""
    monkeypatch.setenv("SECONDREAD_DATA_DIR", str(data_dir))

    def run(*arguments: str, **options: str) -> Result:
        return CliRunner().invoke(app, list(arguments), **options)

    return run


@pytest.fixture
def in_a_process(data_dir: Path):
    """Run a command as a user does, for its exit status and its last words."""

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("SECONDREAD_")
        }
        return subprocess.run(
            [sys.executable, "-m", "cli.main", *arguments],
            env={**kept, "SECONDREAD_DATA_DIR": str(data_dir), "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run
