"""From a reading to the bytes of a structured report (TID 1500).

highdicom lays out the templates of the content tree. The header around it is written
here, because the report must come out for every source that can be named (highdicom
stops at a missing attribute or an unknown SOP class) and byte for byte the same on
every retry (highdicom reads the clock).

Source
------
PS3.3 A.35.2, A.35.3, A.35.13 (SR IODs), C.17.1, C.17.2, C.12.1; PS3.16 TID 1500.
"""

from collections.abc import Sequence

from highdicom.sr import ObservationContext
from pydicom import Dataset, config

from core.domain import Analysed, NotAnalysed, Reading
from core.errors import InvalidReport
from worker.report.check import check_report
from worker.report.context import ReportContext
from worker.report.document import (
    analysed_sources,
    comment_items,
    content_tree,
    device_observer,
    encoded,
)
from worker.report.groups import measurement_groups
from worker.report.header import write_header
from worker.report.sources import check_sources, is_image, text_of

__all__ = ["build_report"]


def build_report(
    reading: Reading, sources: Sequence[Dataset], context: ReportContext
) -> bytes:
    """Write a reading as a DICOM structured report, and read it back.

    Parameters
    ----------
    reading
        What the model said, or why it did not.
    sources
        Headers (no pixels) of the content set's instances, all of one study. The
        first says whose report this is; all are listed as evidence.
    context
        Identity, time and author. Equal arguments give equal bytes.

    Returns
    -------
    A complete DICOM file (PS3.10), Explicit VR Little Endian.

    Raises
    ------
    InvalidInstance
        If a source does not name itself, or the sources name two patients.
    InvalidReport
        If the reading cannot be written as a valid report, or the read-back fails.

    Source
    ------
    PS3.16 TID 1500 (Measurement Report).
    """
    # Sources may break their own value representations; pydicom's warnings about that
    # would carry patient data to the log.
    with config.disable_value_validation():
        check_sources(sources, reading.images, context.study_instance_uid)
        try:
            document = _content_tree(reading, sources, context)
        except (TypeError, ValueError, KeyError) as error:
            raise InvalidReport(
                f"report {context.sop_instance_uid}: the reading does not fit its "
                f"template: {error}"
            ) from error
        write_header(document, reading, sources, context)
        data = encoded(document)
    check_report(data, reading, context)
    return data


def _content_tree(
    reading: Reading, sources: Sequence[Dataset], context: ReportContext
) -> Dataset:
    analysed = analysed_sources(reading, sources)
    images = [source for source in analysed if is_image(source)]
    _check_outlines(reading, images)
    viewable = {str(source.SOPInstanceUID) for source in images}
    return content_tree(
        analysed,
        measurement_groups(reading, viewable, context),
        ObservationContext(observer_device_context=device_observer(context.device)),
        comment_items(_comments(reading)),
    )


def _check_outlines(reading: Reading, images: Sequence[Dataset]) -> None:
    """Refuse an outline that leaves its image.

    Source
    ------
    PS3.3 C.18.6.1.2: columns from 0 to Columns, rows from 0 to Rows.
    """
    sizes = {
        str(i.SOPInstanceUID): (int(i.Columns), int(i.Rows))
        for i in images
        if text_of(i, "Columns").isdecimal() and text_of(i, "Rows").isdecimal()
    }
    findings = reading.findings if isinstance(reading, Analysed) else ()
    for region in (region for finding in findings for region in finding.regions):
        uid = region.image.sop_instance_uid
        columns, rows = sizes.get(uid, (0, 0))
        if not all(0 <= x <= columns and 0 <= y <= rows for x, y in region.points):
            raise InvalidReport(
                f"a region leaves image {uid}, which has {columns} columns and "
                f"{rows} rows; expected points in its own pixels"
            )


def _comments(reading: Reading) -> tuple[str, ...]:
    if isinstance(reading, Analysed):
        return reading.notes
    verb = "Not analysed" if isinstance(reading, NotAnalysed) else "Analysis failed"
    return (f"{verb}: {reading.reason}", reading.explanation)
