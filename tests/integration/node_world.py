"""A small world for the tests of the node: an index, a store, studies and reports."""

import hashlib
import time
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from core.database import deliveries, jobs, reports, studies
from core.database.engine import Database, open_database
from core.database.reports import NewReport
from core.database.studies import StudyRow
from core.domain import ModelIdentity
from core.received import ReceivedInstance
from core.settings import Priority, Settings
from core.uids import derived_uid
from dicom_node.instance_store import InstanceStore

DX = "1.2.840.10008.5.1.4.1.1.1.1"
SR_3D = "1.2.840.10008.5.1.4.1.1.88.34"
MODEL = ModelIdentity("chest", "1.0", "c" * 64)


class Clock:
    """Seconds that go forward when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def part10(sop_class: str, sop_instance: str, **attributes: object) -> bytes:
    dataset = Dataset()
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = sop_instance
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = sop_class
    dataset.file_meta.MediaStorageSOPInstanceUID = sop_instance
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


@dataclass
class World:
    settings: Settings
    database: Database
    store: InstanceStore
    clock: Clock = field(default_factory=Clock)

    def receive(
        self,
        name: str,
        *,
        study: str = "study",
        series: str = "1",
        own_result: bool = False,
        is_image: bool = True,
        order_priority: Priority = Priority.ROUTINE,
        calling: str = "CT1",
        **attributes: object,
    ) -> str:
        """Put an instance into store and index; return its Study Instance UID."""
        study_uid = derived_uid("study", study)
        sop_uid = derived_uid("instance", study, name)
        attributes = {"Modality": "DX", **attributes}
        data = part10(DX if is_image else SR_3D, sop_uid, **attributes)
        sha256 = hashlib.sha256(data).hexdigest()
        path = self.store.path_of(sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        received = ReceivedInstance(
            study_instance_uid=study_uid,
            series_instance_uid=derived_uid("series", study, series),
            sop_instance_uid=sop_uid,
            sop_class_uid=DX if is_image else SR_3D,
            transfer_syntax_uid=ExplicitVRLittleEndian,
            sha256=sha256,
            bytes=len(data),
            modality=str(attributes["Modality"]),
            is_image=is_image,
            own_result=own_result,
            order_priority=order_priority,
            calling_ae_title=calling,
            called_ae_title="SECONDREAD",
            peer_address="127.0.0.1",
            received_at=time.time(),
        )
        with self.database.write() as connection:
            studies.record_instance(connection, received)
        return study_uid

    def study(self, uid: str) -> StudyRow:
        with self.database.read() as connection:
            row = studies.study_by_uid(connection, uid)
        assert row is not None
        return row

    def jobs(self, uid: str) -> list[jobs.JobRow]:
        study = self.study(uid)
        with self.database.read() as connection:
            return jobs.jobs_of_study(connection, study.id)

    def queue_job(
        self,
        uid: str,
        *,
        destinations: tuple[str, ...] = (),
        priority: Priority = Priority.ROUTINE,
    ) -> int:
        study = self.study(uid)
        with self.database.write() as connection:
            content = studies.content_set_of(connection, study.id)
            studies.settle_study(
                connection,
                study.id,
                reason="test",
                content=content,
                expected_instances=study.instance_count,
            )
            job_id = jobs.add_job(
                connection,
                jobs.NewJob(
                    study_id=study.id,
                    model=MODEL.name,
                    model_version=MODEL.version,
                    bundle_sha256=MODEL.bundle_sha256,
                    content_set=content.sha256,
                    rule="r",
                    destinations=destinations,
                    priority=priority,
                ),
            )
        assert job_id is not None
        return job_id

    def report(self, name: str, destinations: tuple[str, ...]) -> int:
        """Make a study, a job and a report that is due; return the report's id."""
        uid = self.receive(name, study=name)
        job_id = self.queue_job(uid, destinations=destinations)
        sop_uid = derived_uid("report", name)
        data = part10(SR_3D, sop_uid, Modality="SR", StudyInstanceUID=uid)
        sha256 = self.store.put_report(data)
        with self.database.write() as connection:
            report_id = reports.add_report(
                connection,
                NewReport(
                    study_id=self.study(uid).id,
                    job_id=job_id,
                    document_kind="reading",
                    sop_class_uid=SR_3D,
                    sop_instance_uid=sop_uid,
                    series_instance_uid=derived_uid("report series", name),
                    sha256=sha256,
                    bytes=len(data),
                    predecessor_id=None,
                ),
            )
            deliveries.add(connection, report_id, destinations)
        return report_id

    def deliveries(self, name: str) -> list[deliveries.DeliveryRow]:
        study = self.study(derived_uid("study", name))
        with self.database.read() as connection:
            return deliveries.deliveries_of_study(connection, study.id)

    def report_bytes(self, report_id: int) -> bytes:
        with self.database.read() as connection:
            row = reports.report_by_id(connection, report_id)
        assert row is not None
        return self.store.read_report(row.sha256)


def make_world(settings: Settings) -> World:
    store = InstanceStore(Path(settings.data_dir), durable=False)
    return World(settings, open_database(settings), store)
