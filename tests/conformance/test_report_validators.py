"""Every kind of report, before the three validators."""

from pathlib import Path

import pytest
from pydicom import Dataset

from core.domain import Presence
from tests.reports import (
    STUDY,
    analysed,
    context,
    failed,
    finding,
    not_analysed,
    radiograph,
    region,
    slices,
)
from tests.validators import dciodvfy, dsrdump, needs_validators, pixelmed
from worker.report.context import COMPREHENSIVE_SR, ENHANCED_SR, PredecessorReport
from worker.report.sr import build_report

pytestmark = [pytest.mark.acceptance, needs_validators, pytest.mark.timeout(600)]

# TID 1410 is for each group with an outline. PixelMed (2022) counts the outlines of the
# whole document, and where there is exactly one it applies TID 1410 to every group.
ONE_REGION_DEFECT = (
    'Template 1410 PlanarROIMeasurements/[Row 1] CONTAINER (125007,DCM,"'
)

WAVEFORM = "1.2.840.10008.5.1.4.1.1.9.1.1"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"

PREDECESSOR = PredecessorReport(
    sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34",
    sop_instance_uid="2.25.1001",
    series_instance_uid="2.25.1002",
    study_instance_uid=STUDY,
)


def ordered_radiograph() -> Dataset:
    """Make a radiograph that fulfils an order and tells its time zone."""
    request = Dataset()
    request.AccessionNumber = "A-77"
    request.RequestedProcedureID = "RP-1"
    request.RequestedProcedureDescription = "Chest"
    request.ScheduledProcedureStepID = "SPS-1"
    source = radiograph("DX", TimezoneOffsetFromUTC="+0100", AccessionNumber="A-77")
    source.RequestAttributesSequence = [request]
    return source


def japanese_radiograph() -> Dataset:
    """Make a radiograph whose source writes names in ISO 2022 Japanese."""
    source = radiograph(PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう")
    source.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    return source


def bare_radiograph() -> Dataset:
    """Make a radiograph without any attribute that may be missing."""
    source = radiograph()
    for keyword in [
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "StudyDate",
        "StudyTime",
        "StudyID",
        "AccessionNumber",
        "ReferringPhysicianName",
        "Manufacturer",
        "ImagerPixelSpacing",
        "PatientOrientation",
        "SpecificCharacterSet",
    ]:
        delattr(source, keyword)
    return source


def reports() -> dict[str, bytes]:
    """Build one report of each kind."""
    cr, dx, ct = radiograph(), ordered_radiograph(), slices()
    japanese, bare = japanese_radiograph(), bare_radiograph()
    positive = analysed(finding(0.8725, cr), notes=("Outside the trained ages.",))
    outlined = finding(0.9, cr, regions=(region(cr), region(cr)))
    several = analysed(finding(0.7, ct[0]), finding(0.2, ct[1], identifier="other"))
    unsure = analysed(finding(0.5, cr, presence=Presence.UNDETERMINED))
    waveform = radiograph("ECG", SOPClassUID=WAVEFORM, Rows=None, Columns=None)
    capture = radiograph("OT", SOPClassUID=SECONDARY_CAPTURE)
    return {
        "positive": build_report(positive, [cr], context()),
        "negative": build_report(analysed(finding(0.03, cr)), [cr], context()),
        "undetermined": build_report(unsure, [cr], context()),
        "regions": build_report(analysed(outlined), [cr], context()),
        "several-ct": build_report(several, ct, context()),
        "not-analysed": build_report(not_analysed(cr), [cr], context()),
        "failed": build_report(failed(cr), [cr], context(document_kind="failure")),
        "predecessor": build_report(positive, [cr], context(predecessor=PREDECESSOR)),
        "request": build_report(analysed(finding(0.6, dx)), [dx], context()),
        "japanese": build_report(
            analysed(finding(0.6, japanese)), [japanese], context()
        ),
        "bare": build_report(analysed(finding(0.6, bare)), [bare], context()),
        "enhanced": build_report(positive, [cr], context(sop_class_uid=ENHANCED_SR)),
        "comprehensive": build_report(
            analysed(outlined), [cr], context(sop_class_uid=COMPREHENSIVE_SR)
        ),
        "no-image": build_report(not_analysed(waveform), [waveform], context()),
        "secondary-capture": build_report(
            analysed(finding(0.6, capture)), [capture], context()
        ),
        "one-region": build_report(
            analysed(finding(0.9, cr, regions=(region(cr),))), [cr], context()
        ),
        "empty-id": build_report(
            analysed(finding(0.6, cr)), [radiograph(PatientID="")], context()
        ),
    }


KINDS = [
    "positive",
    "negative",
    "undetermined",
    "regions",
    "several-ct",
    "not-analysed",
    "failed",
    "predecessor",
    "request",
    "japanese",
    "bare",
    "enhanced",
    "comprehensive",
    "no-image",
    "secondary-capture",
    "one-region",
    "empty-id",
]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    written = {}
    for kind, data in reports().items():
        written[kind] = folder / f"{kind}.dcm"
        written[kind].write_bytes(data)
    return written


@pytest.fixture(scope="module")
def pixelmed_errors(paths: dict[str, Path]) -> dict[Path, list[str]]:
    return pixelmed(list(paths.values()))


@pytest.mark.parametrize("kind", KINDS)
def test_dciodvfy_finds_no_error(kind: str, paths: dict[str, Path]) -> None:
    assert dciodvfy(paths[kind]) == []


@pytest.mark.parametrize("kind", KINDS)
def test_dsrdump_finds_no_error(kind: str, paths: dict[str, Path]) -> None:
    assert dsrdump(paths[kind]) == []


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "one-region"])
def test_pixelmed_finds_no_error(
    kind: str, paths: dict[str, Path], pixelmed_errors: dict[Path, list[str]]
) -> None:
    assert pixelmed_errors[paths[kind]] == []


def test_pixelmed_says_nothing_of_a_single_region_but_its_known_defect(
    paths: dict[str, Path], pixelmed_errors: dict[Path, list[str]]
) -> None:
    errors = pixelmed_errors[paths["one-region"]]

    # Of the image-level group only, "within 1.10.1"; the outline's own group is sound.
    assert all(ONE_REGION_DEFECT in e and "within 1.10.1:" in e for e in errors)


def test_pixelmed_says_when_it_validated_nothing(tmp_path: Path) -> None:
    nothing = tmp_path / "nothing.dcm"
    nothing.write_bytes(b"no report")

    assert pixelmed([nothing])[nothing] != []


def test_the_validators_find_a_broken_report(tmp_path: Path) -> None:
    cr = radiograph()
    data = build_report(analysed(finding(0.6, cr)), [cr], context())
    broken = tmp_path / "broken.dcm"
    broken.write_bytes(data.replace(b"UNVERIFIED", b"SOMEWHAT  "))
    unrelated = tmp_path / "unrelated.dcm"
    unrelated.write_bytes(data.replace(b"HAS CONCEPT MOD ", b"HAS PROPERTIES  "))

    assert dciodvfy(broken) != []
    assert dsrdump(unrelated) != []
