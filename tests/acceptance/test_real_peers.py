"""A radiograph comes from DCMTK or Orthanc, and its report arrives at both.

One system runs for the whole module; nothing here kills anything.
"""

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from models.catalogue import SHIPPED_BUNDLES
from tests.data import (
    DICOM_FILES,
    phantom_study,
    picture_paths,
    picture_study,
    read_instance,
)
from tests.oracle import data_set_of, no_loss, no_phantom, nothing_silent
from tests.peers import (
    DcmtkArchive,
    Ledger,
    Orthanc,
    dcmsend,
    echoscu,
    needs_dcmtk,
    needs_orthanc,
    send,
    storescu,
)
from tests.running import Destination, System, running_system
from tests.validators import dciodvfy, dsrdump, needs_validators, pixelmed

MODEL = "lung-pneumonia-paediatric"

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.timeout(600),
    needs_dcmtk,
    needs_orthanc,
    pytest.mark.skipif(
        not (SHIPPED_BUNDLES / MODEL).is_dir(), reason=f"{MODEL} is not there"
    ),
]


@dataclass
class Clinic:
    """The system with its neighbours."""

    system: System
    dcmtk: DcmtkArchive
    orthanc: Orthanc
    folder: Path

    def radiograph(self, number: int, label: str = "PNEUMONIA") -> Path:
        """Make a DX file of a real radiograph, or of a drawn one where there is none.

        Each number makes another study.
        """
        pictures = picture_paths(label)
        folder = self.folder / f"{label}-{number}"
        if pictures:
            return picture_study(pictures[number], folder)
        drawn = phantom_study(folder, f"{label} {number}")
        return folder / f"{drawn[0].sop_instance_uid}.dcm"

    def report_of(self, path: Path, count: int = 1) -> Dataset:
        """Wait for a study's reports at both archives; returns the newest one."""
        uid = dcmread(path, stop_before_pixels=True).StudyInstanceUID
        reports = self.system.wait_for_reports(uid, count)
        assert len(reports) == count
        document = dcmread(self.system.report_path(reports[-1]["sha256"]))
        assert self.arrived(document.SOPInstanceUID)
        return document

    def arrived(self, sop_instance_uid: str) -> Path:
        """Return the file that DCMTK's archive wrote for a report."""
        (found,) = (
            path
            for path in self.dcmtk.files()
            if dcmread(path).SOPInstanceUID == sop_instance_uid
        )
        return found

    def in_orthanc(self, sop_instance_uid: str) -> str:
        """Return Orthanc's own id of an instance."""
        (found,) = self.orthanc.post("/tools/lookup", sop_instance_uid.encode())
        return str(found["ID"])


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    folder = tmp_path_factory.mktemp("clinic")
    with (
        DcmtkArchive(folder / "dcmtk") as dcmtk,
        Orthanc(folder / "orthanc") as orthanc,
        running_system(
            destinations=(
                Destination("dcmtk", dcmtk.port, "STORESCP"),
                Destination("orthanc", orthanc.port, "ORTHANC"),
            ),
            models=(MODEL,),
        ) as system,
    ):
        orthanc.know("secondread", system.port)
        yield Clinic(system, dcmtk, orthanc, folder)


def test_a_peer_can_ask_whether_the_node_is_there(clinic):
    assert echoscu(clinic.system.port) == 0
    assert echoscu(clinic.system.port, called="SOMEBODY") != 0


def test_dcmsend_of_a_radiograph_brings_its_report_to_dcmtk_and_orthanc(clinic):
    path = clinic.radiograph(0)

    dcmsend(clinic.system.port, [path])

    report = clinic.report_of(path)
    stored = clinic.system.reports(report.StudyInstanceUID)[0]
    sent = data_set_of(clinic.system.report_path(stored["sha256"]))
    assert data_set_of(clinic.arrived(report.SOPInstanceUID)) == sent
    in_orthanc = clinic.in_orthanc(report.SOPInstanceUID)
    (clinic.folder / "fetched.dcm").write_bytes(
        clinic.orthanc.get_file(f"/instances/{in_orthanc}/file")
    )
    assert dcmread(clinic.folder / "fetched.dcm") == report


def test_orthanc_shows_the_finding_and_its_probability(clinic):
    path = clinic.radiograph(1)

    storescu(clinic.system.port, [path])

    report = clinic.report_of(path)
    tags = clinic.orthanc.get(
        f"/instances/{clinic.in_orthanc(report.SOPInstanceUID)}/simplified-tags"
    )
    shown = items_of(tags)
    assert tags["CompletionFlag"] == "COMPLETE"
    assert tags["StudyInstanceUID"] == report.StudyInstanceUID
    assert shown["Finding"] == "Pneumonia"
    assert shown["Pneumonia"] in {"Present", "Absent", "Undetermined"}
    job = clinic.system.jobs(report.StudyInstanceUID)[0]
    probability = json.loads(job["reading"])["findings"][0]["probability"]
    assert float(shown["Probability"]) == pytest.approx(100 * probability, abs=0.06)


@needs_validators
def test_reports_that_arrived_pass_three_validators(clinic):
    paths = [clinic.radiograph(2), clinic.radiograph(0, "NORMAL")]
    refused = phantom_study(clinic.folder / "hand", "hand")
    hand = dcmread(clinic.folder / "hand" / f"{refused[0].sop_instance_uid}.dcm")
    hand.BodyPartExamined = "HAND"
    hand.save_as(clinic.folder / "hand.dcm", enforce_file_format=True)
    paths.append(clinic.folder / "hand.dcm")

    dcmsend(clinic.system.port, paths)

    files = [clinic.arrived(clinic.report_of(path).SOPInstanceUID) for path in paths]
    said = pixelmed(files)
    for file in files:
        assert dciodvfy(file) == []
        assert dsrdump(file) == []
        assert said[file] == []


def test_orthanc_sends_a_radiograph_and_gets_its_report(clinic):
    path = clinic.radiograph(3)
    uploaded = clinic.orthanc.post("/instances", path.read_bytes())

    clinic.orthanc.post("/modalities/secondread/store", {"Resources": [uploaded["ID"]]})

    report = clinic.report_of(path)
    study = clinic.orthanc.get(f"/instances/{uploaded['ID']}/study")
    series = clinic.orthanc.get(f"/studies/{study['ID']}/series")
    assert {one["MainDicomTags"]["Modality"] for one in series} == {"DX", "SR"}
    assert clinic.in_orthanc(report.SOPInstanceUID)


def test_a_report_that_comes_back_starts_no_second_reading(clinic):
    path = clinic.radiograph(4)
    dcmsend(clinic.system.port, [path])
    report = clinic.report_of(path)
    uid = report.StudyInstanceUID

    dcmsend(clinic.system.port, [clinic.arrived(report.SOPInstanceUID)])
    clinic.system.wait_for(
        lambda: clinic.system.rows(
            "SELECT 1 FROM instance WHERE own_result AND sop_instance_uid = ?",
            report.SOPInstanceUID,
        ),
        "the report is in the index as a result",
    )
    wait_out_the_quiet_time(clinic.system)

    assert len(clinic.system.jobs(uid)) == 1
    assert len(clinic.system.reports(uid)) == 1


def test_a_late_instance_brings_a_second_report_that_names_the_first(clinic):
    study = phantom_study(clinic.folder / "late", "late", images=2)
    paths = [clinic.folder / "late" / f"{one.sop_instance_uid}.dcm" for one in study]
    dcmsend(clinic.system.port, paths[:1])
    first = clinic.report_of(paths[0])

    dcmsend(clinic.system.port, paths[1:])

    second = clinic.report_of(paths[0], 2)
    assert second.SOPInstanceUID != first.SOPInstanceUID
    predecessors = [
        instance.ReferencedSOPInstanceUID
        for study_item in second.PredecessorDocumentsSequence
        for series in study_item.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    ]
    assert predecessors == [first.SOPInstanceUID]
    assert clinic.in_orthanc(first.SOPInstanceUID)
    assert clinic.in_orthanc(second.SOPInstanceUID)


def test_a_study_sent_twice_is_read_once(clinic):
    path = clinic.radiograph(5)
    dcmsend(clinic.system.port, [path])
    report = clinic.report_of(path)

    storescu(clinic.system.port, [path])
    wait_out_the_quiet_time(clinic.system)

    study = clinic.system.study(report.StudyInstanceUID)
    assert study["instance_count"] == 1
    assert len(clinic.system.jobs(report.StudyInstanceUID)) == 1
    assert len(clinic.system.reports(report.StudyInstanceUID)) == 1


def test_what_real_peers_sent_is_kept_and_nothing_is_left_open(clinic):
    path = clinic.radiograph(6)
    instance = read_instance(path)
    ledger = send(clinic.system.port, [instance], Ledger())

    clinic.report_of(path)

    no_loss(clinic.system, ledger)
    no_phantom(clinic.system)
    nothing_silent(clinic.system)


@pytest.mark.skipif(
    not (DICOM_FILES / "files" / "RG1_J2KI.dcm").is_file(),
    reason="the folder of real DICOM files is not there",
)
def test_a_film_of_an_adult_gets_a_reason_and_no_finding(clinic):
    path = Path(shutil.copy(DICOM_FILES / "files" / "RG1_J2KI.dcm", clinic.folder))

    storescu(clinic.system.port, [path], "-xw")

    report = clinic.report_of(path)
    job = clinic.system.jobs(report.StudyInstanceUID)[0]
    assert job["outcome"] == "not-analysed"
    assert report.CompletionFlag == "PARTIAL"


def wait_out_the_quiet_time(system: System) -> None:
    """Let a study that was reopened settle again, if it was."""
    time.sleep(2 * system.times.quiet_s)
    system.wait_until_idle()


def items_of(tags: dict[str, object]) -> dict[str, str]:
    """Read the names and values of a report's tree from Orthanc's simplified tags."""
    found: dict[str, str] = {}
    for item in tags.get("ContentSequence", []):  # type: ignore[attr-defined]
        name = item.get("ConceptNameCodeSequence", [{}])[0].get("CodeMeaning", "")
        if item["ValueType"] == "CODE":
            found.setdefault(name, item["ConceptCodeSequence"][0]["CodeMeaning"])
        elif item["ValueType"] == "NUM":
            found.setdefault(name, item["MeasuredValueSequence"][0]["NumericValue"])
        found |= {key: found.get(key, one) for key, one in items_of(item).items()}
    return found
