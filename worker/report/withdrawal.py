"""A rejection note: it asks archives to hide documents that should not exist.

Wrong for "the radiologist disagrees" (that is an assessment): an archive that honours
it stops showing what it names. Right for the wrong patient or a faulty model.

Source
------
PS3.3 A.35.4 (Key Object Selection Document), C.17.6; PS3.16 TID 2010, CID 7010; IHE
RAD TF Imaging Object Change Management (IOCM).
"""

from collections.abc import Sequence

from pydicom import Dataset, config
from pydicom.sr.coding import Code

from core.assessment import Assessment
from core.domain import Analysed
from core.errors import InvalidReport
from worker.report import codes
from worker.report.assessment import comments_of
from worker.report.context import PredecessorReport, ReportContext
from worker.report.document import encoded
from worker.report.header import long_string, write_header
from worker.report.readback import child, children, parsed, require
from worker.report.sources import references_by_study

__all__ = ["build_withdrawal"]

_OF_HEADER_ONLY_IN_SR = (
    "CompletionFlag",
    "VerificationFlag",
    "PreliminaryFlag",
    "PerformedProcedureCodeSequence",
    "PredecessorDocumentsSequence",
)


def build_withdrawal(
    assessment: Assessment,
    reading: Analysed,
    sources: Sequence[Dataset],
    context: ReportContext,
    *,
    withdrawn: Sequence[PredecessorReport],
    for_safety: bool,
) -> bytes:
    """Write a rejection note over documents of ours, and read it back.

    Parameters
    ----------
    assessment
        Who withdraws, and why in words.
    reading, sources, context
        As for `worker.report.assessment.build_assessment`.
    withdrawn
        What archives shall hide.
    for_safety
        Title: Rejected for Patient Safety Reasons, else for Quality Reasons.

    Raises
    ------
    InvalidReport
        If the read-back fails.
    """
    title = codes.REJECTED_FOR_SAFETY if for_safety else codes.REJECTED_FOR_QUALITY
    with config.disable_value_validation():
        note = _content(assessment, withdrawn, title)
        write_header(note, reading, sources, context)
        for keyword in _OF_HEADER_ONLY_IN_SR:
            if keyword in note:
                delattr(note, keyword)
        note.Modality = "KO"
        note.ReferencedPerformedProcedureStepSequence = []
        note.SeriesDescription = long_string(
            f"AI result withdrawn: {reading.algorithm.name}"
        )
        note.CurrentRequestedProcedureEvidenceSequence = references_by_study(
            [
                (
                    one.study_instance_uid,
                    one.series_instance_uid,
                    one.sop_instance_uid,
                    one.sop_class_uid,
                )
                for one in withdrawn
            ]
        )
        data = encoded(note)
        _check(data, context, withdrawn, title)
    return data


def _content(
    assessment: Assessment, withdrawn: Sequence[PredecessorReport], title: Code
) -> Dataset:
    """Lay out TID 2010."""
    note = Dataset()
    note.ValueType = "CONTAINER"
    note.ConceptNameCodeSequence = [_code(title)]
    note.ContinuityOfContent = "SEPARATE"
    template = Dataset()
    template.MappingResource = "DCMR"
    template.TemplateIdentifier = "2010"
    note.ContentTemplateSequence = [template]
    kind = _item("HAS OBS CONTEXT", "CODE", codes.OBSERVER_TYPE)
    kind.ConceptCodeSequence = [_code(codes.PERSON)]
    name = _item("HAS OBS CONTEXT", "PNAME", codes.PERSON_OBSERVER_NAME)
    name.PersonName = assessment.reader.person_name
    items = [kind, name]
    words = [assessment.reason.meaning] if assessment.reason else []
    text = "; ".join([*words, *comments_of(assessment)])
    if text:
        description = _item("CONTAINS", "TEXT", codes.KEY_OBJECT_DESCRIPTION)
        description.TextValue = text
        items.append(description)
    for one in withdrawn:
        # Without a concept name: TID 2010 rows 8 to 10 give COMPOSITE none, and
        # validators call one an error.
        reference = Dataset()
        reference.ReferencedSOPClassUID = one.sop_class_uid
        reference.ReferencedSOPInstanceUID = one.sop_instance_uid
        item = Dataset()
        item.RelationshipType = "CONTAINS"
        item.ValueType = "COMPOSITE"
        item.ReferencedSOPSequence = [reference]
        items.append(item)
    note.ContentSequence = items
    return note


def _item(relationship: str, value_type: str, name: Code) -> Dataset:
    item = Dataset()
    item.RelationshipType = relationship
    item.ValueType = value_type
    item.ConceptNameCodeSequence = [_code(name)]
    return item


def _code(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return item


def _check(
    data: bytes,
    context: ReportContext,
    withdrawn: Sequence[PredecessorReport],
    title: Code,
) -> None:
    try:
        note = parsed(data)
        require(
            (note.SOPInstanceUID, note.SOPClassUID, note.StudyInstanceUID)
            == (
                context.sop_instance_uid,
                context.sop_class_uid,
                context.study_instance_uid,
            ),
            "another identity than derived",
        )
        require(
            note.ConceptNameCodeSequence[0].CodeValue == title.value, "another title"
        )
        named = [
            item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
            for item in note.ContentSequence
            if item.ValueType == "COMPOSITE"
        ]
        require(
            named == [one.sop_instance_uid for one in withdrawn],
            "other documents than withdrawn",
        )
        require(len(children(note, codes.OBSERVER_TYPE)) == 1, "expected an observer")
        child(note, codes.PERSON_OBSERVER_NAME)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InvalidReport(
            f"withdrawal {context.sop_instance_uid} of study "
            f"{context.study_instance_uid} failed its read-back "
            f"({type(error).__name__})"
        ) from error
