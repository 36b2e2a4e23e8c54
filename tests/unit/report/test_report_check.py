from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from io import BytesIO

import pytest
from pydicom import Dataset, dcmread, dcmwrite

from core.domain import Presence
from core.errors import InvalidReport
from tests.reports import (
    ALGORITHM,
    PNEUMONIA,
    analysed,
    context,
    finding,
    not_analysed,
    radiograph,
    region,
)
from worker.report.check import check_report
from worker.report.sr import build_report

SOURCE = radiograph()
READING = analysed(finding(0.87, SOURCE, regions=(region(SOURCE),)), notes=("A note.",))


@pytest.fixture(scope="module")
def data() -> bytes:
    return build_report(READING, [SOURCE], context())


def rewritten(data: bytes, change: Callable[[Dataset], None]) -> bytes:
    dataset = dcmread(BytesIO(data))
    change(dataset)
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def named(item: Dataset, meaning: str) -> Dataset:
    """Find the first content item of a name, at any depth."""
    for child in item.get("ContentSequence", []):
        if child.ConceptNameCodeSequence[0].CodeMeaning == meaning:
            return child
        try:
            return named(child, meaning)
        except LookupError:
            continue
    raise LookupError(meaning)


def test_a_true_report_passes(data: bytes) -> None:
    check_report(data, READING, context())


@pytest.mark.parametrize("kept", [0, 100, 132, 500, 0.3, 0.5, 0.9, 0.999])
def test_a_truncated_report_is_refused(data: bytes, kept: float) -> None:
    length = int(kept * len(data)) if 0 < kept < 1 else int(kept)

    with pytest.raises(InvalidReport, match="read-back"):
        check_report(data[:length], READING, context())


def test_a_report_with_bytes_after_its_end_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidReport, match="read-back"):
        check_report(data + b"\0\0", READING, context())


def verify(dataset: Dataset) -> None:
    dataset.VerificationFlag = "VERIFIED"


def finalize(dataset: Dataset) -> None:
    dataset.PreliminaryFlag = "FINAL"


def make_partial(dataset: Dataset) -> None:
    dataset.CompletionFlag = "PARTIAL"


def rename_root(dataset: Dataset) -> None:
    dataset.ConceptNameCodeSequence[0].CodeValue = "18748-4"


def change_template(dataset: Dataset) -> None:
    dataset.ContentTemplateSequence[0].TemplateIdentifier = "2000"


def make_continuous(dataset: Dataset) -> None:
    named(dataset, "Imaging Measurements").ContinuityOfContent = "CONTINUOUS"


def change_charset(dataset: Dataset) -> None:
    dataset.SpecificCharacterSet = "ISO_IR 100"


def forget_evidence(dataset: Dataset) -> None:
    study = dataset.CurrentRequestedProcedureEvidenceSequence[0]
    series = study.ReferencedSeriesSequence[0]
    series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID = "1.2.3"


def raise_probability(dataset: Dataset) -> None:
    value = named(dataset, "Probability").MeasuredValueSequence[0]
    value.NumericValue, value.FloatingPointValue = "88", 88.0


def show_another_probability(dataset: Dataset) -> None:
    named(dataset, "Probability").MeasuredValueSequence[0].NumericValue = "86"


def forget_the_unit(dataset: Dataset) -> None:
    value = named(dataset, "Probability").MeasuredValueSequence[0]
    value.MeasurementUnitsCodeSequence[0].CodeValue = "1"


def lower_threshold(dataset: Dataset) -> None:
    value = named(dataset, "Threshold Value").MeasuredValueSequence[0]
    value.NumericValue, value.FloatingPointValue = "40", 40.0


def not_a_number(dataset: Dataset) -> None:
    value = named(dataset, "Probability").MeasuredValueSequence[0]
    value.FloatingPointValue = float("nan")


def deny(dataset: Dataset) -> None:
    named(dataset, "Pneumonia").ConceptCodeSequence[0].CodeValue = "272519000"


def find_something_else(dataset: Dataset) -> None:
    named(dataset, "Finding").ConceptCodeSequence[0].CodeValue = "36118008"


def move_the_region(dataset: Dataset) -> None:
    named(dataset, "Image Region").GraphicData[0] = 101


def swap_the_side(dataset: Dataset) -> None:
    named(dataset, "Laterality").ConceptCodeSequence[0].CodeValue = "7771000"


def change_tracking(dataset: Dataset) -> None:
    named(dataset, "Tracking Unique Identifier").UID = "2.25.5"


def lose_the_note(dataset: Dataset) -> None:
    named(dataset, "Comment").TextValue = "Nothing."


def lose_the_weights(dataset: Dataset) -> None:
    named(dataset, "Algorithm Parameters").TextValue = "weights sha256=none"


def lose_the_patient(dataset: Dataset) -> None:
    del dataset.PatientID


def change_study(dataset: Dataset) -> None:
    dataset.StudyInstanceUID = "1.2.3"


def shift_the_clock(dataset: Dataset) -> None:
    dataset.TimezoneOffsetFromUTC = "+0100"


def add_a_group(dataset: Dataset) -> None:
    measurements = named(dataset, "Imaging Measurements")
    group = deepcopy(measurements.ContentSequence[0])
    named(group, "Tracking Identifier").TextValue = "nodule"
    measurements.ContentSequence.append(group)


def lose_the_tree(dataset: Dataset) -> None:
    del dataset.ContentSequence


@pytest.mark.parametrize(
    "change",
    [
        verify,
        finalize,
        make_partial,
        rename_root,
        change_template,
        make_continuous,
        change_charset,
        forget_evidence,
        raise_probability,
        show_another_probability,
        forget_the_unit,
        lower_threshold,
        not_a_number,
        deny,
        find_something_else,
        move_the_region,
        swap_the_side,
        change_tracking,
        lose_the_note,
        lose_the_weights,
        lose_the_patient,
        change_study,
        shift_the_clock,
        add_a_group,
        lose_the_tree,
    ],
)
def test_a_report_that_says_something_else_is_refused(
    data: bytes, change: Callable[[Dataset], None]
) -> None:
    false = rewritten(data, change)

    with pytest.raises(InvalidReport, match=context().sop_instance_uid):
        check_report(false, READING, context())


def test_a_report_of_another_key_is_refused(data: bytes) -> None:
    other = context(report_key=("1.2.3", "cd", "ef"))

    with pytest.raises(InvalidReport, match="expected"):
        check_report(data, READING, other)


def test_a_presence_that_contradicts_its_threshold_is_refused() -> None:
    absurd = analysed(finding(0.87, SOURCE, presence=Presence.ABSENT))

    with pytest.raises(InvalidReport, match="contradicts"):
        build_report(absurd, [SOURCE], context())


def test_a_number_in_a_report_without_an_answer_is_refused(data: bytes) -> None:
    reading = not_analysed(SOURCE)
    report = build_report(reading, [SOURCE], context())
    number = named(dcmread(BytesIO(data)), "Probability")

    def add_number(dataset: Dataset) -> None:
        named(dataset, "Measurement Group").ContentSequence.append(number)

    with pytest.raises(InvalidReport, match="number"):
        check_report(rewritten(report, add_number), reading, context())


def test_a_reading_is_no_failure_document() -> None:
    with pytest.raises(InvalidReport, match="document"):
        build_report(READING, [SOURCE], context(document_kind="failure"))


def test_the_code_of_a_finding_is_compared_not_its_meaning(data: bytes) -> None:
    renamed = replace(PNEUMONIA, meaning="Lung inflammation")
    reading = replace(READING, findings=(replace(READING.findings[0], code=renamed),))

    check_report(data, reading, context())


def test_a_refusal_tells_nothing_of_the_patient(data: bytes) -> None:
    false = rewritten(data, verify)

    with pytest.raises(InvalidReport) as caught:
        check_report(false, READING, context())

    assert "Phantom" not in str(caught.value)
    assert ALGORITHM.name not in str(caught.value)
