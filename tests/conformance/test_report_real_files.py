"""Reports on every file of the interoperability set."""

import warnings
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from core.errors import SenderError
from tests.reports import analysed, context, finding, not_analysed
from worker.report.sources import is_image
from worker.report.sr import build_report
from worker.report.text import report_lines

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "dicom"
NAMES = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")

pytestmark = [
    pytest.mark.skipif(
        not FOLDER.is_dir(), reason=f"needs the DICOM files of {FOLDER}"
    ),
    pytest.mark.timeout(600),
]


def headers() -> list[Dataset]:
    """Read every file that says which object of which series and study it is."""
    found = []
    for path in sorted([*FOLDER.glob("files/*"), *FOLDER.glob("series/*/*")]):
        # Reading warns of what these files break; here only the reports matter.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = dcmread(path, stop_before_pixels=True, force=True)
            if all(header.get(name) for name in NAMES):
                found.append(header)
    return found


def test_every_real_file_is_reported_or_refused_for_its_uids() -> None:
    refused, reported = [], 0

    for header in headers():
        read = analysed(finding(0.6, header)) if is_image(header) else None
        key = (header.StudyInstanceUID, "model", "content")
        try:
            data = build_report(
                read or not_analysed(header), [header], context(report_key=key)
            )
        except SenderError as error:
            refused.append(str(error))
        else:
            reported += len(report_lines(data)) > 10

    assert reported > 150
    assert all("no usable StudyInstanceUID" in message for message in refused)
    assert len(refused) == 1


def test_a_real_series_becomes_one_report() -> None:
    series = [
        dcmread(path, stop_before_pixels=True)
        for path in sorted(FOLDER.glob("series/torchio-ct-series/*"))
    ]
    reading = analysed(finding(0.6, series[0]))
    key = (series[0].StudyInstanceUID, "model", "content")

    data = build_report(reading, series, context(report_key=key))

    assert data.count(b"1.2.840.10008.5.1.4.1.1.2") >= len(series)
