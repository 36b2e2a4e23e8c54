"""A reader's decision as a document of its own: the verified successor of a report.

The report that was assessed is never changed. The successor carries the reader's own
values under the same tracking UIDs, names the report as predecessor and evidence, and
is VERIFIED by a person. It repeats no probability: that is the model's, and stands
where the model said it.

Source
------
PS3.3 C.17.2 (Verifying Observer Sequence, Predecessor Documents Sequence); PS3.16 TID
1001, 1003, 1004 (observers), TID 1500, TID 1501.
"""

from collections.abc import Iterator, Sequence

from highdicom.sr import (
    CodeContentItem,
    ContentItem,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    PersonObserverIdentifyingAttributes,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    RelationshipTypeValues,
    TrackingIdentifier,
)
from pydicom import Dataset, config

from core.assessment import Assessment, FindingAssessment, Reader
from core.domain import Analysed, Finding
from core.errors import InvalidReport
from worker.report import codes
from worker.report.assessment_check import check_assessment
from worker.report.context import PredecessorReport, ReportContext
from worker.report.document import (
    analysed_sources,
    comment_items,
    content_tree,
    device_observer,
    encoded,
)
from worker.report.groups import Group, finding_sites, image_region, source_image
from worker.report.header import long_string, write_header
from worker.report.sources import check_sources, references_by_study
from worker.report.vocabulary import Vocabulary, scheme_identification

__all__ = ["build_assessment", "comments_of"]


def build_assessment(
    assessment: Assessment,
    reading: Analysed,
    sources: Sequence[Dataset],
    context: ReportContext,
    *,
    assessed: Sequence[PredecessorReport],
    vocabulary: Vocabulary,
) -> bytes:
    """Write a decision as a verified structured report, and read it back.

    Parameters
    ----------
    assessment
        What was decided, by whom.
    reading
        What the model had said.
    sources
        Headers of the content set, as for `worker.report.sr.build_report`.
    context
        Identity, time and device; its predecessor is the document that this one
        succeeds.
    assessed
        Every document that was before the reader: the model's report, and earlier
        assessments of it. They become evidence.
    vocabulary
        How decisions are called.

    Returns
    -------
    A complete DICOM file. Equal arguments give equal bytes.

    Raises
    ------
    InvalidInstance, InvalidReport
        As `worker.report.sr.build_report`.
    """
    with config.disable_value_validation():
        check_sources(sources, reading.images, context.study_instance_uid)
        try:
            document = content_tree(
                analysed_sources(reading, sources),
                list(_groups(assessment, reading, context, vocabulary)),
                _observers(assessment.reader, context),
                _evaluations(assessment, vocabulary),
            )
        except (TypeError, ValueError, KeyError) as error:
            raise InvalidReport(
                f"assessment {context.sop_instance_uid} does not fit its template: "
                f"{error}"
            ) from error
        write_header(document, reading, sources, context)
        _sign(document, assessment)
        _say_what_was_assessed(document, assessed)
        document.SeriesDescription = long_string(
            f"AI result {assessment.decision} by reader: {reading.algorithm.name}"
        )
        schemes = scheme_identification(document)
        if schemes:
            document.CodingSchemeIdentificationSequence = schemes
        data = encoded(document)
    check_assessment(
        data, assessment, reading, context, assessed=assessed, vocabulary=vocabulary
    )
    return data


def comments_of(assessment: Assessment) -> tuple[str, ...]:
    """Return what the reader said in words, each finding's with its name."""
    of_findings = (
        f"{one.tracking_identifier}: {one.comment}"
        for one in assessment.findings
        if one.comment
    )
    return tuple(text for text in (assessment.comment, *of_findings) if text)


def _groups(
    assessment: Assessment,
    reading: Analysed,
    context: ReportContext,
    vocabulary: Vocabulary,
) -> Iterator[Group]:
    findings = {one.tracking_identifier: one for one in reading.findings}
    for judged in assessment.findings:
        finding = findings[judged.tracking_identifier]
        yield _finding_group(judged, finding, context, vocabulary)
        if judged.keeps_regions:
            yield from _region_groups(judged, finding, context)


def _finding_group(
    judged: FindingAssessment,
    finding: Finding,
    context: ReportContext,
    vocabulary: Vocabulary,
) -> MeasurementsAndQualitativeEvaluations:
    name = judged.tracking_identifier
    statements = [
        QualitativeEvaluation(
            codes.concept(vocabulary.concept),
            codes.concept(vocabulary.decisions[judged.decision]),
        )
    ]
    if judged.presence is not None:
        presence = codes.PRESENCE[judged.presence]
        statements.append(QualitativeEvaluation(codes.concept(finding.code), presence))
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(context.tracking_uid(name), name),
        finding_type=codes.concept(finding.code),
        finding_sites=finding_sites(name, judged.site, judged.laterality),
        qualitative_evaluations=statements,
        source_images=[source_image(image) for image in finding.images] or None,
    )


def _region_groups(
    judged: FindingAssessment, finding: Finding, context: ReportContext
) -> Iterator[PlanarROIMeasurementsAndQualitativeEvaluations]:
    for number, region in enumerate(finding.regions, start=1):
        name = f"{judged.tracking_identifier}-{number}"
        yield PlanarROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=TrackingIdentifier(
                context.region_tracking_uid(name), name
            ),
            referenced_region=image_region(region),
            finding_type=codes.concept(finding.code),
            finding_sites=finding_sites(name, judged.site, judged.laterality),
        )


def _observers(reader: Reader, context: ReportContext) -> ObservationContext:
    return ObservationContext(
        observer_person_context=ObserverContext(
            observer_type=codes.PERSON,
            observer_identifying_attributes=PersonObserverIdentifyingAttributes(
                name=reader.person_name,
                login_name=reader.login,
                organization_name=reader.organization,
            ),
        ),
        observer_device_context=device_observer(context.device),
    )


def _evaluations(assessment: Assessment, vocabulary: Vocabulary) -> list[ContentItem]:
    contains = RelationshipTypeValues.CONTAINS
    items: list[ContentItem] = [
        CodeContentItem(
            codes.concept(vocabulary.concept),
            codes.concept(vocabulary.decisions[assessment.decision]),
            contains,
        )
    ]
    if assessment.reason is not None:
        items.append(
            CodeContentItem(
                codes.concept(vocabulary.reason_concept),
                codes.concept(assessment.reason),
                contains,
            )
        )
    return [*items, *comment_items(comments_of(assessment))]


def _sign(document: Dataset, assessment: Assessment) -> None:
    """Make it the word of a person (PS3.3 C.17.2)."""
    observer = Dataset()
    observer.VerifyingOrganization = long_string(assessment.reader.organization)
    observer.VerificationDateTime = (
        document.ContentDate + document.ContentTime + document.TimezoneOffsetFromUTC
    )
    observer.VerifyingObserverName = assessment.reader.person_name
    observer.VerifyingObserverIdentificationCodeSequence = []
    document.VerificationFlag = "VERIFIED"
    document.PreliminaryFlag = "FINAL"
    document.VerifyingObserverSequence = [observer]


def _say_what_was_assessed(
    document: Dataset, assessed: Sequence[PredecessorReport]
) -> None:
    """Add the assessed documents to the evidence, behind the images."""
    images = [
        (
            str(study.StudyInstanceUID),
            str(series.SeriesInstanceUID),
            str(reference.ReferencedSOPInstanceUID),
            str(reference.ReferencedSOPClassUID),
        )
        for study in document.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    ]
    documents = [
        (
            one.study_instance_uid,
            one.series_instance_uid,
            one.sop_instance_uid,
            one.sop_class_uid,
        )
        for one in assessed
    ]
    document.CurrentRequestedProcedureEvidenceSequence = references_by_study(
        [*images, *documents]
    )
