"""How long a search takes with 100,000 studies in the catalogue.

    python -m benchmarks.queries --studies 100000

Rows are written straight into a fresh index: what is measured is the search, from the
request to the answer's last byte, through the application and without a network.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from sqlalchemy import insert
from starlette.testclient import TestClient

from benchmarks.harness import Report, add_output_options
from core.database.catalogue import catalogue_series, catalogue_study
from core.database.engine import Database, open_database
from core.database.schema import instance, series, shelf, study
from core.settings import Settings
from core.uids import uid_hash
from dicom_node.dicomweb.app import dicomweb_app
from dicom_node.instance_store import InstanceStore
from dicom_node.query.matching import fold_name

__all__ = ["main"]

_SERIES_PER_STUDY = 2
_AT_ONCE = 5000
_NAMES = ("Smith", "Meyer", "Yamada", "Garcia", "Kowalski", "Nguyen", "Rossi", "Silva")
_DESCRIPTIONS = ("Chest PA", "CT Thorax", "MR Brain", "Abdomen", "Hand left")
_QUERIES = {
    "newest 101, as OHIF lists": "studies?limit=101&offset=0&includefield=00081030",
    "one study by UID": "studies?StudyInstanceUID=2.25.777.4711",
    "one patient by ID": "studies?PatientID=P4711",
    "accession number": "studies?AccessionNumber=A4711",
    "dates of a month": "studies?StudyDate=20250601-20250630&limit=101",
    "name with a wildcard": "studies?PatientName=yamada*4711&limit=101",
    "a name that nobody has": "studies?PatientName=*nobody*&limit=101",
    "modality": "studies?ModalitiesInStudy=MR&limit=101",
    "description with a wildcard": "studies?StudyDescription=*left*&limit=101",
    "a description that nobody has": "studies?StudyDescription=*nothing*&limit=101",
    "page 500": "studies?limit=101&offset=50000",
    "series of a study": "studies/2.25.777.4711/series",
}


def main() -> None:
    """Fill an index, ask each query several times, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.queries")
    parser.add_argument("--studies", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=11)
    add_output_options(parser)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = Report("queries", Path(folder))
        settings = Settings(data_dir=Path(folder))
        database = open_database(settings)
        try:
            _fill(database, given.studies)
            rows = _measure(settings, database, given.rounds)
        finally:
            database.close()
        report.table(f"{given.studies} studies", rows)
        report.finish(given)


def _measure(
    settings: Settings, database: Database, rounds: int
) -> list[dict[str, object]]:
    app = dicomweb_app(
        settings,
        database,
        InstanceStore(settings.data_dir),
        authorise=lambda _request, _scope: "BENCHMARK",
    )
    rows: list[dict[str, object]] = []
    with TestClient(app) as client:
        for name, query in _QUERIES.items():
            times = []
            found = 0
            for _ in range(rounds):
                began = time.perf_counter()
                response = client.get(f"/{query}")
                times.append(time.perf_counter() - began)
                found = len(response.raise_for_status().json())
            rows.append(
                {
                    "query": name,
                    "found": found,
                    "ms, median": round(1000 * statistics.median(times), 1),
                    "ms, longest": round(1000 * max(times), 1),
                }
            )
    return rows


def _fill(database: Database, count: int) -> None:
    chance = random.Random(1)
    for start in range(1, count + 1, _AT_ONCE):
        numbers = range(start, min(start + _AT_ONCE, count + 1))
        with database.write() as connection:
            connection.execute(insert(study), [_study(n) for n in numbers])
            connection.execute(
                insert(catalogue_study), [_catalogued(n, chance) for n in numbers]
            )
            made = [one for n in numbers for one in _series(n, chance)]
            connection.execute(insert(series), [one[0] for one in made])
            connection.execute(insert(catalogue_series), [one[1] for one in made])
            connection.execute(insert(instance), [one[2] for one in made])
    with database.write() as connection:
        connection.execute(
            insert(shelf).prefix_with("OR IGNORE"), {"id": 0, "filled": 0}
        )


def _study(number: int) -> dict[str, object]:
    return {
        "id": number,
        "study_instance_uid": f"2.25.777.{number}",
        "state": "settled",
        "order_priority": "routine",
        "calling_ae_title": "CT1",
        "called_ae_title": "SECONDREAD",
        "peer_address": "10.0.0.1",
        "instance_count": _SERIES_PER_STUDY,
        "first_instance_at": float(number),
        "last_instance_at": float(number),
    }


def _catalogued(number: int, chance: random.Random) -> dict[str, object]:
    name = f"{chance.choice(_NAMES)}^{chance.choice(_NAMES)}{number}"
    date = f"2025{1 + number % 12:02d}{1 + number % 28:02d}"
    values = {
        "00080020": ("DA", [date]),
        "00080030": ("TM", ["101500"]),
        "00080050": ("SH", [f"A{number}"]),
        "00080090": ("PN", [{"Alphabetic": "Doctor^Who"}]),
        "00081030": ("LO", [chance.choice(_DESCRIPTIONS)]),
        "00100010": ("PN", [{"Alphabetic": name}]),
        "00100020": ("LO", [f"P{number // 2}"]),
        "00100030": ("DA", ["19700101"]),
        "00100040": ("CS", ["O"]),
        "0020000D": ("UI", [f"2.25.777.{number}"]),
        "00200010": ("SH", [str(number)]),
    }
    return {
        "study_id": number,
        "study_instance_uid": f"2.25.777.{number}",
        "patient_name": fold_name(name),
        "patient_id": f"P{number // 2}",
        "study_date": date,
        "accession_number": f"A{number}",
        "attributes": _json(values),
    }


def _series(
    number: int, chance: random.Random
) -> Iterator[tuple[dict[str, object], dict[str, object], dict[str, object]]]:
    modality = chance.choice(("CR", "DX", "CT", "CT", "MR"))
    for place in range(_SERIES_PER_STUDY):
        identifier = number * _SERIES_PER_STUDY + place
        uid = f"2.25.777.{number}.{place}"
        attributes = {
            "00080060": ("CS", [modality]),
            "0008103E": ("LO", ["a series"]),
            "0020000E": ("UI", [uid]),
            "00200011": ("IS", [place]),
        }
        yield (
            {
                "id": identifier,
                "study_id": number,
                "series_instance_uid": uid,
                "modality": modality,
            },
            {
                "study_id": number,
                "series_instance_uid": uid,
                "modality": modality,
                "attributes": _json(attributes),
            },
            {
                "study_id": number,
                "series_id": identifier,
                "sop_instance_uid": f"{uid}.1",
                "shelf": 0,
                "uid_hash": uid_hash(f"{uid}.1"),
                "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2",
                "transfer_syntax_uid": "1.2.840.10008.1.2.1",
                "sha256": f"{identifier:064x}",
                "bytes": 1000,
                "is_image": True,
                "received_at": float(number),
            },
        )


def _json(values: Mapping[str, tuple[str, object]]) -> str:
    return json.dumps({tag: {"vr": vr, "Value": v} for tag, (vr, v) in values.items()})


if __name__ == "__main__":
    main()
