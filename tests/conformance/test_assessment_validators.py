"""Every kind of reader's document, before the three validators."""

from pathlib import Path

import pytest

from core.domain import Presence
from tests.assessments import (
    AI_REPORT,
    VOCABULARY,
    accepted,
    amended,
    assessment_context,
    rejected,
    withdrawal_context,
    withdrawn,
)
from tests.conformance.test_report_validators import japanese_radiograph
from tests.reports import analysed, finding, radiograph, region, slices
from tests.validators import dciodvfy, dsrdump, needs_validators, pixelmed
from worker.report.assessment import build_assessment
from worker.report.context import ENHANCED_SR, PredecessorReport
from worker.report.withdrawal import build_withdrawal

pytestmark = [pytest.mark.acceptance, needs_validators, pytest.mark.timeout(600)]

ASSESSED_BEFORE = PredecessorReport(
    sop_class_uid=AI_REPORT.sop_class_uid,
    sop_instance_uid="2.25.2001",
    series_instance_uid="2.25.2002",
    study_instance_uid=AI_REPORT.study_instance_uid,
)


def documents() -> dict[str, bytes]:
    """Build one document of each kind."""
    cr, ct, japanese = radiograph(), slices(), japanese_radiograph()
    outlined = analysed(finding(0.9, cr, regions=(region(cr), region(cr))))
    several = analysed(finding(0.7, ct[0]), finding(0.2, ct[1], identifier="other"))

    def build(assessment, reading, sources, context=None, assessed=(AI_REPORT,)):
        return build_assessment(
            assessment,
            reading,
            sources,
            context or assessment_context(),
            assessed=assessed,
            vocabulary=VOCABULARY,
        )

    return {
        "accepted": build(accepted(outlined, "Seen."), outlined, [cr]),
        "amended": build(amended(outlined), outlined, [cr]),
        "undetermined": build(
            amended(outlined, Presence.UNDETERMINED), outlined, [cr]
        ),
        "rejected": build(rejected(outlined), outlined, [cr]),
        "several-ct": build(amended(several), several, ct),
        "japanese": build(
            accepted(analysed(finding(0.6, japanese))),
            analysed(finding(0.6, japanese)),
            [japanese],
        ),
        "second": build(
            amended(outlined), outlined, [cr], assessment_context(2),
            (AI_REPORT, ASSESSED_BEFORE),
        ),
        "enhanced": build(
            accepted(outlined), outlined, [cr],
            assessment_context(sop_class_uid=ENHANCED_SR),
        ),
        "withdrawn": build_withdrawal(
            withdrawn(outlined), outlined, [cr], withdrawal_context(),
            withdrawn=[AI_REPORT], for_safety=True,
        ),
    }  # fmt: skip


KINDS = [
    "accepted",
    "amended",
    "undetermined",
    "rejected",
    "several-ct",
    "japanese",
    "second",
    "enhanced",
    "withdrawn",
]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("assessments")
    written = {}
    for kind, data in documents().items():
        written[kind] = folder / f"{kind}.dcm"
        written[kind].write_bytes(data)
    return written


@pytest.fixture(scope="module")
def pixelmed_errors(paths: dict[str, Path]) -> dict[Path, list[str]]:
    return pixelmed(list(paths.values()))


@pytest.mark.parametrize("kind", KINDS)
def test_no_validator_finds_an_error(
    kind: str, paths: dict[str, Path], pixelmed_errors: dict[Path, list[str]]
) -> None:
    assert dciodvfy(paths[kind]) == []
    assert dsrdump(paths[kind]) == []
    assert pixelmed_errors[paths[kind]] == []
