"""An installation whose studies have been read: images, reading, report, deliveries.

What a node and a worker leave behind, made without either, so that a test of what a
reader does with it starts in milliseconds.
"""

import hashlib
from datetime import UTC, datetime
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmread

from core.assessment import Assessment
from core.database import deliveries, jobs, reports, studies
from core.database.engine import Database, open_database
from core.database.jobs import NewJob
from core.database.reports import NewReport
from core.domain import (
    AlgorithmIdentity,
    Analysed,
    Code,
    Finding,
    ImageReference,
    Laterality,
    NotAnalysed,
    NotAnalysedReason,
    Presence,
    Reading,
    Region,
    reading_to_json,
)
from core.received import ReceivedInstance
from core.settings import Priority, Settings
from dicom_node.instance_store import InstanceStore
from review.decisions import results_of_study
from worker.phantom import PhantomIdentity, chest_radiograph, to_dicom
from worker.report.context import (
    COMPREHENSIVE_3D_SR,
    DeviceIdentity,
    ReportContext,
)
from worker.report.sr import build_report

LUNG = Code("39607008", "SCT", "Lung")
PNEUMONIA = Code("233604007", "SCT", "Pneumonia")
ALGORITHM = AlgorithmIdentity(
    name="lung-pneumonia-paediatric",
    version="0.2.0",
    manufacturer="secondread",
    weights_sha256="c" * 64,
    bundle_sha256="b" * 64,
    parameters=("preprocessing=area resize to 224 x 224",),
)


@cache
def _phantom() -> npt.NDArray[np.float32]:
    return chest_radiograph(rows=256, columns=256, opacity=True)


def image_reference(image: Dataset) -> ImageReference:
    """Refer to an image as a reading does."""
    return ImageReference(
        image.SOPClassUID, image.SOPInstanceUID, image.SeriesInstanceUID
    )


def pneumonia(
    image: Dataset, probability: float = 0.91, *, outlined: bool = False
) -> Analysed:
    """Make the answer of a model; outlined ones say where."""
    reference = image_reference(image)
    rows, columns = float(image.Rows), float(image.Columns)
    corners = ((0.2, 0.5), (0.42, 0.5), (0.42, 0.75), (0.2, 0.75))
    region = Region(reference, tuple((x * columns, y * rows) for x, y in corners))
    finding = Finding(
        tracking_identifier="pneumonia",
        code=PNEUMONIA,
        probability=probability,
        threshold=0.5,
        presence=Presence.PRESENT if probability >= 0.5 else Presence.ABSENT,
        site=LUNG,
        laterality=Laterality.RIGHT if outlined else None,
        images=(reference,),
        regions=(region,) if outlined else (),
    )
    return Analysed(ALGORITHM, (reference,), (finding,))


def not_analysed(image: Dataset) -> NotAnalysed:
    """Make the refusal of a model."""
    return NotAnalysed(
        ALGORITHM,
        (image_reference(image),),
        NotAnalysedReason.AGE_OUT_OF_RANGE,
        "the patient is 54 years old; the model reads ages from 1 to 5 years",
    )


class ReadStudies:
    """Puts studies into an installation.

    Parameters
    ----------
    settings
        Of the installation; its data directory is made.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database: Database = open_database(settings)
        self.store = InstanceStore(settings.data_dir)

    def close(self) -> None:
        self.database.close()

    def image(self, seed: str, **attributes: object) -> Dataset:
        """Make a radiograph of the phantom; `attributes` replace its own."""
        identity = PhantomIdentity(study_seed=seed)
        image = to_dicom(_phantom(), identity=identity)
        for keyword, value in attributes.items():
            setattr(image, keyword, value)
        return image

    def receive(self, image: Dataset, *, at: float = 1000.0) -> str:
        """Keep an image as the node does; returns its Study Instance UID."""
        buffer = BytesIO()
        image.save_as(buffer, enforce_file_format=True)
        data = buffer.getvalue()
        sha256 = hashlib.sha256(data).hexdigest()
        path = self.store.path_of(sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        with self.database.write() as connection:
            studies.record_instance(
                connection,
                ReceivedInstance(
                    study_instance_uid=str(image.StudyInstanceUID),
                    series_instance_uid=str(image.SeriesInstanceUID),
                    sop_instance_uid=str(image.SOPInstanceUID),
                    sop_class_uid=str(image.SOPClassUID),
                    transfer_syntax_uid=str(image.file_meta.TransferSyntaxUID),
                    sha256=sha256,
                    bytes=len(data),
                    modality=str(image.Modality),
                    is_image=True,
                    own_result=False,
                    order_priority=Priority.ROUTINE,
                    calling_ae_title="DX_ROOM_1",
                    called_ae_title="SECONDREAD",
                    peer_address="127.0.0.1",
                    received_at=at,
                ),
            )
        return str(image.StudyInstanceUID)

    def queue(
        self,
        study_instance_uid: str,
        *,
        destinations: tuple[str, ...] = ("pacs",),
        priority: Priority = Priority.ROUTINE,
    ) -> int:
        """Settle a study and queue its job."""
        with self.database.write() as connection:
            row = studies.study_by_uid(connection, study_instance_uid)
            assert row is not None
            content = studies.content_set_of(connection, row.id)
            studies.settle_study(
                connection,
                row.id,
                reason="quiet for 10 s",
                content=content,
                expected_instances=row.instance_count,
            )
            job_id = jobs.add_job(
                connection,
                NewJob(
                    study_id=row.id,
                    model=ALGORITHM.name,
                    model_version=ALGORITHM.version,
                    bundle_sha256=ALGORITHM.bundle_sha256,
                    content_set=content.sha256,
                    rule="all",
                    destinations=destinations,
                    priority=priority,
                ),
            )
        assert job_id is not None
        return job_id

    def report(
        self,
        job_id: int,
        image: Dataset,
        reading: Reading,
        *,
        destinations: tuple[str, ...] = ("pacs",),
        delivered: bool = True,
        hold: bool = False,
    ) -> None:
        """Read a queued job and store its report; deliver it unless told otherwise."""
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
            context = ReportContext(
                report_key=(
                    str(image.StudyInstanceUID),
                    held.job.bundle_sha256,
                    held.job.content_set,
                ),
                device=DeviceIdentity(
                    observer_uid="2.25.42",
                    name="secondread",
                    model_name=ALGORITHM.name,
                    serial_number="0001",
                    software_versions=("secondread 0.1.0",),
                ),
                created_at=datetime(2026, 11, 23, 9, 30, 15, tzinfo=UTC),
                series_number=901,
                sop_class_uid=COMPREHENSIVE_3D_SR,
            )
            data = build_report(reading, [image], context)
            document = NewReport(
                study_id=held.job.study_id,
                job_id=job_id,
                document_kind="reading",
                sop_class_uid=context.sop_class_uid,
                sop_instance_uid=context.sop_instance_uid,
                series_instance_uid=context.series_instance_uid,
                sha256=self.store.put_report(data),
                bytes=len(data),
                predecessor_id=None,
            )
            jobs.store_report(
                connection,
                held,
                [(document, destinations)],
                timings={"infer": 0.02},
                hold=hold,
            )
            if delivered and not hold:
                for row in deliveries.deliveries_of_study(
                    connection, held.job.study_id
                ):
                    deliveries.start(connection, row.id)
                    deliveries.accepted(connection, row.id, answer="0000 success")

    def read(
        self,
        seed: str,
        *,
        probability: float = 0.91,
        outlined: bool = False,
        at: float = 1000.0,
        delivered: bool = True,
        hold: bool = False,
        **attributes: object,
    ) -> str:
        """Do all of it for one radiograph; returns the Study Instance UID."""
        image = self.image(seed, **attributes)
        uid = self.receive(image, at=at)
        reading = pneumonia(image, probability, outlined=outlined)
        self.report(self.queue(uid), image, reading, delivered=delivered, hold=hold)
        return uid

    def documents(self, study_instance_uid: str) -> list[tuple[str, Path]]:
        """Return kind and path of a study's reports, the oldest first."""
        with self.database.read() as connection:
            row = studies.study_by_uid(connection, study_instance_uid)
            assert row is not None
            return [
                (one.document_kind, self.store.report_path(one.sha256))
                for one in reports.reports_of_study(connection, row.id)
            ]

    def deliveries(self, study_instance_uid: str) -> list[tuple[str, str, float]]:
        """Return document kind, state and due time of each delivery."""
        with self.database.read() as connection:
            row = studies.study_by_uid(connection, study_instance_uid)
            assert row is not None
            kinds = {
                one.id: one.document_kind
                for one in reports.reports_of_study(connection, row.id)
            }
            return [
                (kinds[one.report_id], one.state.value, one.due_at)
                for one in deliveries.deliveries_of_study(connection, row.id)
            ]

    def decision(self, study_instance_uid: str) -> Assessment:
        """Return the decision that holds on the one result of a study."""
        (result,) = results_of_study(self.database, study_instance_uid)
        assert result.standing is not None
        return result.standing.assessment

    def newest_document(self, study_instance_uid: str) -> Dataset:
        """Read the last report of a study."""
        _, path = self.documents(study_instance_uid)[-1]
        return dcmread(path)
