from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread

from core.domain import Laterality, Presence
from core.errors import InvalidReport
from core.uids import IMPLEMENTATION_CLASS_UID
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
from worker.report.context import COMPREHENSIVE_SR, PredecessorReport
from worker.report.groups import percentages
from worker.report.sr import build_report


def read(data: bytes) -> Dataset:
    return dcmread(BytesIO(data))


def items(item: Dataset, meaning: str) -> list[Dataset]:
    """Find content items at any depth by the meaning of their name."""
    found = []
    for child in item.get("ContentSequence", []):
        if child.ConceptNameCodeSequence[0].CodeMeaning == meaning:
            found.append(child)
        found += items(child, meaning)
    return found


def positive(**changes: Any) -> Dataset:
    source = radiograph()
    return read(
        build_report(analysed(finding(0.87, source)), [source], context(**changes))
    )


def test_equal_arguments_give_equal_bytes() -> None:
    first, second = radiograph(), radiograph()

    one = build_report(analysed(finding(0.87, first)), [first], context())
    two = build_report(analysed(finding(0.87, second)), [second], context())

    assert one == two


def test_the_sources_are_left_as_they_were() -> None:
    source = radiograph(PatientBirthDate=None)
    before = source.to_json()

    build_report(analysed(finding(0.87, source)), [source], context())

    assert source.to_json() == before


def test_a_report_is_a_part_10_file_of_our_implementation() -> None:
    source = radiograph()

    data = build_report(analysed(finding(0.87, source)), [source], context())

    assert data[:132] == bytes(128) + b"DICM"
    assert read(data).file_meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    assert read(data).file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"


def test_a_positive_finding_states_probability_threshold_and_presence() -> None:
    report = positive()

    (probability,) = items(report, "Probability")
    (threshold,) = items(report, "Threshold Value")
    (presence,) = items(report, "Pneumonia")
    assert probability.MeasuredValueSequence[0].NumericValue == 87
    assert threshold.MeasuredValueSequence[0].NumericValue == 50
    assert presence.ConceptCodeSequence[0].CodeValue == "52101004"


@pytest.mark.parametrize(
    ("probability", "presence", "code"),
    [(0.02, Presence.ABSENT, "272519000"), (0.5, Presence.UNDETERMINED, "373068000")],
)
def test_an_answer_that_is_not_positive_is_stated_all_the_same(
    probability: float, presence: Presence, code: str
) -> None:
    source = radiograph()
    reading = analysed(finding(probability, source, presence=presence))

    report = read(build_report(reading, [source], context()))

    (stated,) = items(report, "Pneumonia")
    assert stated.ConceptCodeSequence[0].CodeValue == code
    assert report.CompletionFlag == "COMPLETE"


def test_a_machine_never_calls_its_report_verified_or_final() -> None:
    report = positive()

    assert (report.VerificationFlag, report.PreliminaryFlag) == (
        "UNVERIFIED",
        "PRELIMINARY",
    )


def test_a_study_not_analysed_is_partial_with_its_reason_and_no_number() -> None:
    source = radiograph()

    report = read(build_report(not_analysed(source), [source], context()))

    (status,) = items(report, "Analysis Performed")
    comments = [item.TextValue for item in items(report, "Comment")]
    assert report.CompletionFlag == "PARTIAL"
    assert report.CompletionFlagDescription == "Not analysed: wrong-body-part"
    assert status.ConceptCodeSequence[0].CodeValue == "111225"
    assert items(report, "Probability") == []
    assert comments == [
        "Not analysed: wrong-body-part",
        "Body Part Examined is HAND; the model reads CHEST",
    ]


def test_a_failed_analysis_says_failed_and_no_number() -> None:
    source = radiograph()

    report = read(
        build_report(failed(source), [source], context(document_kind="failure"))
    )

    (status,) = items(report, "Analysis Performed")
    assert report.CompletionFlagDescription == "Analysis failed: time limit"
    assert status.ConceptCodeSequence[0].CodeValue == "111224"
    assert items(report, "Probability") == []


def test_an_object_refused_for_being_no_image_is_evidence_but_not_shown() -> None:
    source = radiograph(Rows=None, Columns=None)

    report = read(build_report(not_analysed(source), [source], context()))

    (evidence,) = report.CurrentRequestedProcedureEvidenceSequence
    assert items(report, "Source of Measurement") == items(report, "Source") == []
    assert evidence.ReferencedSeriesSequence[0].ReferencedSOPSequence


def test_a_region_is_a_closed_polyline_on_its_image() -> None:
    source = radiograph()
    reading = analysed(finding(0.9, source, regions=(region(source),)))

    report = read(build_report(reading, [source], context()))

    (outline,) = items(report, "Image Region")
    assert outline.GraphicType == "POLYLINE"
    assert outline.GraphicData == [
        100,
        200,
        300.5,
        200,
        300.5,
        400.25,
        100,
        400.25,
        100,
        200,
    ]


def test_a_region_on_a_frame_names_the_frame() -> None:
    source = radiograph()
    outline = region(source)
    on_frame = replace(outline, image=replace(outline.image, frame_number=3))
    reading = analysed(finding(0.9, source, regions=(on_frame,)))

    report = read(build_report(reading, [source], context()))

    (stated,) = items(report, "Image Region")
    reference = stated.ContentSequence[0].ReferencedSOPSequence[0]
    assert reference.ReferencedFrameNumber == 3


def test_a_region_outside_its_image_is_refused() -> None:
    source = radiograph(Rows=300)
    reading = analysed(finding(0.9, source, regions=(region(source),)))

    with pytest.raises(InvalidReport, match="leaves image"):
        build_report(reading, [source], context())


def test_the_algorithm_is_named_with_the_hash_of_its_weights() -> None:
    report = positive()

    parameters = [item.TextValue for item in items(report, "Algorithm Parameters")]
    assert "weights sha256=" + "ab" * 32 in parameters
    assert "decision threshold=0.5" in parameters
    assert "preprocessing=area resize to 224 x 224" in parameters


def test_notes_reach_the_reader_as_sentences() -> None:
    source = radiograph()
    reading = analysed(finding(0.87, source), notes=("Older than trained on.",))

    report = read(build_report(reading, [source], context()))

    (comment,) = items(report, "Comment")
    assert comment.TextValue == "Older than trained on."


def test_all_containers_are_separate() -> None:
    source = radiograph()
    reading = analysed(finding(0.87, source), notes=("A note.",))

    data = build_report(reading, [source], context())

    assert b"CONTINUOUS" not in data


def test_two_classes_of_report_have_two_instance_uids_and_one_content() -> None:
    report, fall_back = positive(), positive(sop_class_uid=COMPREHENSIVE_SR)

    assert report.SOPInstanceUID != fall_back.SOPInstanceUID
    assert report.ContentSequence == fall_back.ContentSequence


def test_a_failure_and_a_later_reading_have_two_instance_uids() -> None:
    reading, failure = context(), context(document_kind="failure")

    assert reading.sop_instance_uid != failure.sop_instance_uid
    assert reading.series_instance_uid != failure.series_instance_uid


def test_a_finding_keeps_its_tracking_uid_when_late_instances_arrive() -> None:
    before, after = context(), context(report_key=(STUDY, "cd" * 32, "01" * 32))

    assert before.tracking_uid("pneumonia") == after.tracking_uid("pneumonia")
    assert before.sop_instance_uid != after.sop_instance_uid
    assert before.region_tracking_uid("p-1") != after.region_tracking_uid("p-1")


def test_a_report_names_its_predecessor() -> None:
    predecessor = PredecessorReport(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34",
        sop_instance_uid="2.25.7",
        series_instance_uid="2.25.8",
        study_instance_uid=STUDY,
    )

    report = positive(predecessor=predecessor)

    (study,) = report.PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == "2.25.8"
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "2.25.7"


def test_times_are_utc_where_the_source_tells_no_zone() -> None:
    report = positive(created_at=datetime(2026, 11, 23, 23, 30, tzinfo=UTC))

    assert report.TimezoneOffsetFromUTC == "+0000"
    assert (report.ContentDate, report.ContentTime) == ("20261123", "233000.000000")


def test_times_are_in_the_zone_of_the_source() -> None:
    source = radiograph(TimezoneOffsetFromUTC="+0130")
    moment = datetime(2026, 11, 23, 23, 30, tzinfo=UTC)
    reading = analysed(finding(0.87, source))

    report = read(build_report(reading, [source], context(created_at=moment)))

    assert report.TimezoneOffsetFromUTC == "+0130"
    assert (report.ContentDate, report.ContentTime) == ("20261124", "010000.000000")


@pytest.mark.parametrize("offset", ["0100", "+1430", "Europe", "+01"])
def test_an_offset_that_is_none_is_not_believed(offset: str) -> None:
    source = radiograph(TimezoneOffsetFromUTC=offset)
    reading = analysed(finding(0.87, source))

    report = read(build_report(reading, [source], context()))

    assert report.TimezoneOffsetFromUTC == "+0000"


def test_the_series_is_our_own_and_says_unverified_ai() -> None:
    report = positive()

    assert report.SeriesInstanceUID == context().series_instance_uid
    assert report.SeriesNumber == 901
    assert report.SeriesDescription == "AI result, unverified: chest-pneumonia"


def test_every_slice_is_listed_with_its_geometry() -> None:
    series = slices(3)
    reading = analysed(finding(0.6, series[0]), finding(0.2, series[1], identifier="b"))

    report = read(build_report(replace(reading, images=()), series, context()))

    positions = items(report, "Image Position (Patient) Z")
    assert [p.MeasuredValueSequence[0].NumericValue for p in positions] == [0, 2.5, 5]


def test_a_ct_is_reported_as_ct_and_a_radiograph_as_imaging_procedure() -> None:
    series = slices(1)
    ct = read(build_report(analysed(finding(0.6, series[0])), series, context()))

    (procedure,) = items(ct, "Procedure reported")
    (other,) = items(positive(), "Procedure reported")

    assert procedure.ConceptCodeSequence[0].CodeValue == "25045-6"
    assert other.ConceptCodeSequence[0].CodeValue == "363679005"


@pytest.mark.parametrize("keyword", ["ImagerPixelSpacing", "PatientOrientation"])
def test_spacing_is_left_out_where_the_source_does_not_tell_it(keyword: str) -> None:
    source = radiograph(**{keyword: None})

    report = read(build_report(analysed(finding(0.6, source)), [source], context()))

    assert items(report, "Horizontal Pixel Spacing") == []
    assert items(report, "Patient Orientation Row") == []
    assert len(items(report, "Pixel Data Rows")) == 1


def test_an_image_of_no_coded_modality_is_listed_without_descriptors() -> None:
    source = radiograph(Modality="OT")

    report = read(build_report(analysed(finding(0.6, source)), [source], context()))

    (entry,) = items(report, "Source")
    assert "ContentSequence" not in entry


def test_a_side_without_a_site_is_refused() -> None:
    source = radiograph()
    sided = replace(finding(0.6, source), site=None, laterality=Laterality.LEFT)

    with pytest.raises(InvalidReport, match="laterality"):
        build_report(analysed(sided), [source], context())


def test_two_findings_of_one_name_are_refused() -> None:
    source = radiograph()
    twice = analysed(finding(0.6, source), finding(0.7, source))

    with pytest.raises(InvalidReport, match="two groups"):
        build_report(twice, [source], context())


def test_a_reading_without_findings_is_refused() -> None:
    source = radiograph()

    with pytest.raises(InvalidReport):
        build_report(analysed(), [source], context())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1, 1.1])
def test_a_number_that_is_no_probability_is_refused(value: float) -> None:
    source = radiograph()

    with pytest.raises(InvalidReport, match="from 0 to 1"):
        build_report(analysed(finding(value, source)), [source], context())


def test_a_rounded_probability_does_not_contradict_the_decision() -> None:
    assert percentages(0.499996, 0.5) == (49.9996, 50)
    assert percentages(0.87251, 0.5) == (87.25, 50)


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0, 1))
def test_rounding_never_changes_the_comparison(p: float, t: float) -> None:
    shown, limit = percentages(p, t)

    # Below twelve digits of a percent there is no decision left to tell apart.
    assert (shown >= limit) == (p >= t) or abs(p - t) < 1e-13


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 1))
def test_any_probability_comes_back_as_it_was(probability: float) -> None:
    source = radiograph()
    reading = analysed(finding(probability, source))

    report = read(build_report(reading, [source], context()))

    (item,) = items(report, "Probability")
    measured = item.MeasuredValueSequence[0]
    assert measured.FloatingPointValue == pytest.approx(100 * probability, abs=1e-12)
    assert len(str(measured.NumericValue)) <= 16
