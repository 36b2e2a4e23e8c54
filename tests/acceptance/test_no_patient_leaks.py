"""A study full of marker names goes every way there is; no marker leaves the images.

Looked through are the logs, the broker's memory and its file, the index, error texts
and the names of all files.
"""

import base64
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pydicom import Dataset

from tests.data import Instance, instance_of
from tests.peers import RecordingPacs, send
from tests.running import Destination, System, running_system
from tests.tiny_bundle import make_tiny_bundle
from worker.phantom import PhantomIdentity, chest_radiograph, to_dicom

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]

MARKER = "ZXMARKER"
BIRTH_DATE = "19010203"
TEXT = (
    "PatientName", "PatientID", "AccessionNumber", "ReferringPhysicianName",
    "StudyDescription", "SeriesDescription", "InstitutionName", "StationName",
    "PatientComments", "PerformingPhysicianName", "OperatorsName", "ProtocolName",
    "OtherPatientIDs", "StudyID", "ImageComments", "RequestingPhysician",
    "PatientAddress", "MilitaryRank", "AdmissionID", "DeviceSerialNumber",
)  # fmt: skip


def marked(seed: str, number: int = 1) -> Dataset:
    """Make a radiograph on which every text names the patient."""
    dataset = to_dicom(
        chest_radiograph(rows=96, columns=80, seed=number),
        identity=PhantomIdentity(study_seed=seed, instance_number=number),
    )
    for place, keyword in enumerate(TEXT):
        setattr(dataset, keyword, f"{MARKER}{place}")
    dataset.PatientName = f"{MARKER}^{MARKER}\u00e9"
    dataset.PatientBirthDate = BIRTH_DATE
    block = dataset.private_block(0x0011, MARKER, create=True)
    block.add_new(1, "LO", MARKER)
    return dataset


def studies(folder: Path) -> dict[str, Instance]:
    """Make one study for each way that a study can go."""
    sound = marked("sound")
    refused = marked("refused")
    refused.BodyPartExamined = "HAND"
    broken = marked("broken")
    broken.BitsStored, broken.Rows = 12, 9000
    odd = marked("odd")
    odd.PhotometricInterpretation = "ODD"
    conflict = marked("sound")
    conflict.PatientComments = f"{MARKER} other"
    instances = {
        name: instance_of(dataset, _made(folder / name))
        for name, dataset in {
            "sound": sound,
            "refused": refused,
            "broken": broken,
            "odd": odd,
            "conflict": conflict,
        }.items()
    }
    whole = instance_of(marked("cut"), _made(folder / "cut"))
    instances["cut"] = Instance(
        "cut",
        whole.sop_class_uid,
        whole.sop_instance_uid,
        whole.study_instance_uid,
        whole.transfer_syntax_uid,
        whole.data_set[: len(whole.data_set) // 2],
    )
    return instances


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("marker")
    make_tiny_bundle(folder / "bundles" / "tiny")
    with (
        RecordingPacs() as pacs,
        running_system(
            destinations=(Destination("pacs", pacs.port), Destination("shut", 1)),
            bundles=folder / "bundles",
            models=("tiny-brightness",),
        ) as running,
    ):
        made = studies(folder / "studies")
        pacs.status = 0xA900
        for instance in made.values():
            send(running.port, [instance])
        running.wait_for(
            lambda: (
                len(running.jobs()) == 4
                and all(job["state"] == "reported" for job in running.jobs())
                and all(row["last_answer"] for row in running.deliveries())
            ),
            "four studies read and their deliveries tried",
        )
        yield running


def test_the_marked_studies_went_every_way(system):
    outcomes = {job["outcome"] for job in system.jobs()}

    assert outcomes == {"analysed", "not-analysed"}
    assert system.rows("SELECT 1 FROM conflict")
    assert any("A900" in (row["last_answer"] or "") for row in system.deliveries())


def test_no_marker_is_in_a_log(system):
    for part in system.parts:
        said = part.words().encode()

        assert said, f"{part.name} wrote nothing"
        assert found(said) == [], part.name


def test_no_marker_is_in_the_broker(system):
    for file in system.broker_dir.rglob("*"):
        if file.is_file():
            assert found(file.read_bytes()) == [], file.name
    keys = system.broker_says("KEYS", "*")
    assert found(keys) == []


def test_of_the_index_only_the_catalogue_of_queries_names_a_patient(system):
    named = set()
    with closing(sqlite3.connect(system.data_dir / "index.sqlite")) as index:
        tables = index.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        for (table,) in tables.fetchall():
            rows = index.execute(f'SELECT * FROM "{table}"').fetchall()
            if found(repr(rows).encode()):
                named.add(table)

    # Names are there to be searched for, and nowhere else.
    assert named - {"catalogue_series"} == {"catalogue_study"}


def test_no_marker_is_in_a_name_of_a_file(system):
    for folder, names, files in os.walk(system.folder):
        for name in (*names, *files):
            assert found(name.encode()) == [], folder


def test_the_marker_is_in_the_images_and_reports_so_the_search_can_find_it(system):
    for room in ("objects", "reports"):
        files = list((system.data_dir / room).glob("*/*.dcm"))

        assert files
        assert all(found(file.read_bytes()) for file in files), room


def found(data: bytes) -> list[str]:
    """Return the markers in some bytes, also where they are written in base64."""
    encoded = re.findall(rb"[A-Za-z0-9+/]{24,}={0,2}", data)
    texts = [data, *map(_decoded, encoded)]
    return [
        marker
        for marker in (MARKER, BIRTH_DATE)
        if any(marker.encode() in text for text in texts)
    ]


def _decoded(text: bytes) -> bytes:
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4))
    except ValueError:
        return b""
