"""The read-back: no report leaves that does not say what its reading says.

It reads the bytes with nothing but a DICOM parser and compares them with the reading,
independently of the code that wrote them. The validators used in tests know the
standard; this knows the reading.

Source
------
PS3.16 TID 1500, TID 1501, TID 1410; PS3.3 C.17.2, C.17.3; PS3.10 7.1.
"""

from pydicom import Dataset
from pydicom.sr.coding import Code

from core.domain import Analysed, Failed, Finding, Presence, Reading
from worker.report import codes
from worker.report.context import STATUS_IDENTIFIER, ReportContext
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
    reference,
    require,
    tracking_uid,
    triple,
)

__all__ = ["check_report"]

# DS keeps 16 characters, FD 53 bits; a wrong probability differs by far more.
TOLERANCE = 1e-9
# Percentages are rounded to two decimals for people.
ROUNDING = 0.005 + 1e-9


def check_report(data: bytes, reading: Reading, context: ReportContext) -> None:
    """Read a report back and compare it with what it should say.

    Parameters
    ----------
    data
        The complete DICOM file.
    reading, context
        As they were given to `worker.report.sr.build_report`.

    Raises
    ------
    InvalidReport
        At the first difference; the message names the report and what was expected.
    """
    with read_back("report", context):
        dataset = parsed(data)
        check_identity(dataset, reading, context)
        _check_flags(dataset, reading)
        check_tree(dataset)
        check_references(dataset, reading)
        _check_content(dataset, reading, context)


def _check_flags(dataset: Dataset, reading: Reading) -> None:
    """Hold the document to what a machine may say of it (PS3.3 C.17.2)."""
    complete = isinstance(reading, Analysed)
    flag = "COMPLETE" if complete else "PARTIAL"
    require(dataset.CompletionFlag == flag, f"Completion Flag: expected {flag}")
    require(
        bool(dataset.get("CompletionFlagDescription")) != complete,
        "a partial report says why in Completion Flag Description, a complete one not",
    )
    require(
        dataset.VerificationFlag == "UNVERIFIED"
        and "VerifyingObserverSequence" not in dataset,
        "Verification Flag: expected UNVERIFIED; only a person verifies",
    )
    require(
        dataset.PreliminaryFlag == "PRELIMINARY",
        "Preliminary Flag: expected PRELIMINARY",
    )


def _check_content(dataset: Dataset, reading: Reading, context: ReportContext) -> None:
    measurements = child(dataset, codes.IMAGING_MEASUREMENTS)
    groups: dict[str, Dataset] = {}
    for group in children(measurements, codes.MEASUREMENT_GROUP):
        identifier = child(group, codes.TRACKING_IDENTIFIER).TextValue
        require(identifier not in groups, f"two groups are named {identifier!r}")
        groups[identifier] = group
        _check_algorithm(group, reading)
    if isinstance(reading, Analysed):
        expected = _check_findings(groups, reading, context)
        sentences = reading.notes
    else:
        _check_status(groups[STATUS_IDENTIFIER], reading, context)
        expected = {STATUS_IDENTIFIER}
        sentences = (reading.explanation,)
    require(set(groups) == expected, f"expected the groups {sorted(expected)}")
    check_sentences(dataset, sentences)


def _check_algorithm(group: Dataset, reading: Reading) -> None:
    algorithm = reading.algorithm
    stated = [item.TextValue for item in children(group, codes.ALGORITHM_PARAMETERS)]
    require(
        child(group, codes.ALGORITHM_NAME).TextValue == algorithm.name
        and child(group, codes.ALGORITHM_VERSION).TextValue == algorithm.version
        and f"weights sha256={algorithm.weights_sha256}" in stated,
        f"expected algorithm {algorithm.name} {algorithm.version} and its weights",
    )


def _check_findings(
    groups: dict[str, Dataset], reading: Analysed, context: ReportContext
) -> set[str]:
    require(bool(reading.findings), "an analysed reading has at least one finding")
    expected = set()
    for finding in reading.findings:
        identifier = finding.tracking_identifier
        require(identifier in groups, f"finding {identifier!r} is missing")
        expected.add(identifier)
        group = groups[identifier]
        require(
            tracking_uid(group) == context.tracking_uid(identifier),
            f"finding {identifier!r}: another tracking UID than derived",
        )
        _check_finding(group, finding)
        for number, region in enumerate(finding.regions, start=1):
            name = f"{identifier}-{number}"
            require(name in groups, f"region {name!r} is missing")
            expected.add(name)
            outline = child(groups[name], codes.IMAGE_REGION)
            require(
                tracking_uid(groups[name]) == context.region_tracking_uid(name),
                f"region {name!r}: another tracking UID than derived",
            )
            check_outline(outline, region.image, region.points, name)
    return expected


def _check_finding(group: Dataset, finding: Finding) -> None:
    name = finding.tracking_identifier
    code = codes.concept(finding.code)
    require(
        is_coded(child(group, codes.FINDING), code), f"{name}: expected {code.value}"
    )
    require(
        is_coded(child(group, code), codes.PRESENCE[finding.presence]),
        f"{name}: expected {finding.presence}",
    )
    shown = _check_percent(group, codes.PROBABILITY, finding.probability, name)
    limit = _check_percent(group, codes.THRESHOLD_VALUE, finding.threshold, name)
    if finding.presence is not Presence.UNDETERMINED:
        present = finding.presence is Presence.PRESENT
        undecidable = abs(finding.probability - finding.threshold) < TOLERANCE
        require(
            (finding.probability >= finding.threshold) == present
            and ((shown >= limit) == present or undecidable),
            f"{name}: {finding.presence} contradicts its probability and threshold",
        )
    if finding.site is not None:
        site = child(group, codes.FINDING_SITE)
        require(is_coded(site, codes.concept(finding.site)), f"{name}: another site")
        if finding.laterality is not None:
            side = child(site, codes.SITE_LATERALITY)
            require(
                is_coded(side, codes.LATERALITY[finding.laterality]),
                f"{name}: another side",
            )
    sources = [reference(i) for i in children(group, codes.SOURCE_OF_MEASUREMENT)]
    require(
        sources == [triple(image) for image in finding.images],
        f"{name}: other source images than analysed",
    )


def _check_percent(group: Dataset, concept: Code, value: float, name: str) -> float:
    """Compare a number with the reading's; give what people see, in percent."""
    item = child(group, concept)
    measured = item.MeasuredValueSequence[0]
    unit = measured.MeasurementUnitsCodeSequence[0]
    require(unit.CodeValue == "%", f"{name}: expected percent")
    shown = float(measured.NumericValue)
    require(
        abs(measured.FloatingPointValue / 100 - value) <= TOLERANCE
        and abs(shown - 100 * value) <= ROUNDING,
        f"{name}: {concept.meaning} {shown} % is not the reading's {value}",
    )
    return shown


def _check_status(group: Dataset, reading: Reading, context: ReportContext) -> None:
    failed = isinstance(reading, Failed)
    wanted = codes.ANALYSIS_FAILED if failed else codes.ANALYSIS_NOT_ATTEMPTED
    require(
        is_coded(child(group, codes.ANALYSIS_PERFORMED), wanted),
        f"Analysis Performed: expected {wanted.meaning}",
    )
    require(
        tracking_uid(group) == context.tracking_uid(STATUS_IDENTIFIER),
        "the status has another tracking UID than derived",
    )
    require(
        all(item.get("ValueType") != "NUM" for item in group.ContentSequence),
        "a study without an answer must not show a number",
    )
