"""The read-back of a reader's document: it says what was decided, by whom, of what.

Source
------
PS3.16 TID 1500, TID 1501, TID 1001 to 1004; PS3.3 C.17.2.
"""

from collections.abc import Sequence
from datetime import datetime

from pydicom import Dataset

from core.assessment import Assessment, FindingAssessment
from core.domain import Analysed, Finding
from worker.report import codes
from worker.report.context import PredecessorReport, ReportContext
from worker.report.readback import (
    check_identity,
    check_outline,
    check_references,
    check_sentences,
    check_tree,
    child,
    children,
    is_coded,
    parsed,
    read_back,
    require,
    tracking_uid,
    walk,
)
from worker.report.vocabulary import Vocabulary

__all__ = ["check_assessment"]


def check_assessment(
    data: bytes,
    assessment: Assessment,
    reading: Analysed,
    context: ReportContext,
    *,
    assessed: Sequence[PredecessorReport],
    vocabulary: Vocabulary,
) -> None:
    """Read a reader's document back and compare it with the decision.

    Parameters
    ----------
    data
        The complete DICOM file.
    assessment, reading, context, assessed, vocabulary
        As they were given to `worker.report.assessment.build_assessment`.

    Raises
    ------
    InvalidReport
        At the first difference.
    """
    with read_back("assessment", context):
        document = parsed(data)
        check_identity(document, reading, context)
        check_tree(document)
        check_references(document, reading)
        _check_signature(document, assessment, context)
        _check_assessed(document, assessed, context)
        _check_observers(document, assessment)
        _check_decision(document, assessment, vocabulary)
        _check_findings(document, assessment, reading, context, vocabulary)


def _check_signature(
    document: Dataset, assessment: Assessment, context: ReportContext
) -> None:
    for keyword, wanted in (
        ("CompletionFlag", "COMPLETE"),
        ("VerificationFlag", "VERIFIED"),
        ("PreliminaryFlag", "FINAL"),
    ):
        require(document.get(keyword) == wanted, f"{keyword}: expected {wanted}")
    (observer,) = document.VerifyingObserverSequence
    stamp = datetime.strptime(observer.VerificationDateTime, "%Y%m%d%H%M%S.%f%z")
    require(
        observer.VerifyingObserverName == assessment.reader.person_name
        and stamp == context.created_at
        and bool(observer.VerifyingOrganization),
        "expected the reader's name, organization and time as verifying observer",
    )


def _check_assessed(
    document: Dataset, assessed: Sequence[PredecessorReport], context: ReportContext
) -> None:
    before = context.predecessor
    require(before is not None, "an assessment succeeds the document it speaks of")
    named = _referenced(document.PredecessorDocumentsSequence)
    require(
        before is not None and named == {before.sop_instance_uid},
        "Predecessor Documents: expected the document that is succeeded",
    )
    evidence = _referenced(document.CurrentRequestedProcedureEvidenceSequence)
    missing = {one.sop_instance_uid for one in assessed} - evidence
    require(not missing, "a document that was assessed is not in the evidence")


def _referenced(sequence: Sequence[Dataset]) -> set[str]:
    return {
        str(reference.ReferencedSOPInstanceUID)
        for study in sequence
        for series in study.ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    }


def _check_observers(document: Dataset, assessment: Assessment) -> None:
    kinds = children(document, codes.OBSERVER_TYPE)
    require(
        [is_coded(kinds[0], codes.PERSON), is_coded(kinds[1], codes.DEVICE)]
        == [True, True],
        "expected a person and a device as observers",
    )
    name = child(document, codes.PERSON_OBSERVER_NAME)
    require(
        name.PersonName == assessment.reader.person_name, "observer: another person"
    )


def _check_decision(
    document: Dataset, assessment: Assessment, vocabulary: Vocabulary
) -> None:
    said = child(document, codes.QUALITATIVE_EVALUATIONS)
    wanted = codes.concept(vocabulary.decisions[assessment.decision])
    require(
        is_coded(child(said, codes.concept(vocabulary.concept)), wanted),
        f"decision: expected {wanted.meaning}",
    )
    reasons = children(said, codes.concept(vocabulary.reason_concept))
    expected = [assessment.reason] if assessment.reason is not None else []
    require(
        len(reasons) == len(expected)
        and all(
            is_coded(item, codes.concept(reason))
            for item, reason in zip(reasons, expected, strict=True)
        ),
        "reason: another one than the reader's",
    )
    words = (assessment.comment, *(one.comment for one in assessment.findings))
    spoken = " ".join(
        item.TextValue
        for container in children(document, codes.QUALITATIVE_EVALUATIONS)
        for item in children(container, codes.COMMENT)
    )
    require(all(text in spoken for text in words), "a comment is missing")
    check_sentences(document, (assessment.comment,))


def _check_findings(
    document: Dataset,
    assessment: Assessment,
    reading: Analysed,
    context: ReportContext,
    vocabulary: Vocabulary,
) -> None:
    measurements = child(document, codes.IMAGING_MEASUREMENTS)
    groups = {
        str(child(group, codes.TRACKING_IDENTIFIER).TextValue): group
        for group in children(measurements, codes.MEASUREMENT_GROUP)
    }
    findings = {one.tracking_identifier: one for one in reading.findings}
    require(
        {one.tracking_identifier for one in assessment.findings} == set(findings),
        "every finding of the result is judged, and no other",
    )
    expected = set(findings)
    for judged in assessment.findings:
        name = judged.tracking_identifier
        group = groups[name]
        require(
            tracking_uid(group) == context.tracking_uid(name),
            f"finding {name!r}: another tracking UID than the result's",
        )
        _check_finding(group, judged, findings[name], vocabulary)
        regions = findings[name].regions if judged.keeps_regions else ()
        for number, region in enumerate(regions, start=1):
            label = f"{name}-{number}"
            expected.add(label)
            outline = child(groups[label], codes.IMAGE_REGION)
            require(
                tracking_uid(groups[label]) == context.region_tracking_uid(label),
                f"region {label!r}: another tracking UID than the result's",
            )
            check_outline(outline, region.image, region.points, label)
    require(set(groups) == expected, f"expected the groups {sorted(expected)}")


def _check_finding(
    group: Dataset, judged: FindingAssessment, finding: Finding, vocabulary: Vocabulary
) -> None:
    name = judged.tracking_identifier
    require(
        all(item.get("ValueType") != "NUM" for item in walk(group)),
        f"{name}: a number of the model in the reader's document",
    )
    decision = child(group, codes.concept(vocabulary.concept))
    require(
        is_coded(decision, codes.concept(vocabulary.decisions[judged.decision])),
        f"{name}: another decision",
    )
    stated = children(group, codes.concept(finding.code))
    require(
        len(stated) == (judged.presence is not None),
        f"{name}: presence is stated though nothing was said, or is missing",
    )
    if judged.presence is not None:
        require(
            is_coded(stated[0], codes.PRESENCE[judged.presence]),
            f"{name}: expected {judged.presence}",
        )
    sites = children(group, codes.FINDING_SITE)
    require(len(sites) == (judged.site is not None), f"{name}: another site")
    if judged.site is not None:
        require(is_coded(sites[0], codes.concept(judged.site)), f"{name}: another site")
        sides = children(sites[0], codes.SITE_LATERALITY)
        wanted = [codes.LATERALITY[judged.laterality]] if judged.laterality else []
        require(
            len(sides) == len(wanted)
            and all(is_coded(a, b) for a, b in zip(sides, wanted, strict=True)),
            f"{name}: another side",
        )
