"""Measurement groups: one for each finding, each outline, and each missing answer.

Source
------
PS3.16 TID 1501 (Measurement and Qualitative Evaluation Group), TID 1410 (Planar ROI),
TID 300 (Measurement), TID 4019 (Algorithm Identification).
"""

import math
from collections.abc import Iterator, Sequence, Set

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    FindingSite,
    GraphicTypeValues,
    ImageRegion,
    Measurement,
    MeasurementsAndQualitativeEvaluations,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    SourceImageForMeasurementGroup,
    SourceImageForRegion,
    TrackingIdentifier,
)
from pydicom.sr.coding import Code
from pydicom.valuerep import DS

from core import domain
from core.domain import (
    AlgorithmIdentity,
    Analysed,
    Failed,
    Finding,
    ImageReference,
    NotAnalysed,
    Reading,
    Region,
)
from core.errors import InvalidReport
from worker.report import codes
from worker.report.context import STATUS_IDENTIFIER, ReportContext

__all__ = [
    "Group",
    "finding_sites",
    "image_region",
    "measurement_groups",
    "percentages",
    "source_image",
]

Group = (
    MeasurementsAndQualitativeEvaluations
    | PlanarROIMeasurementsAndQualitativeEvaluations
)


def measurement_groups(
    reading: Reading, viewable: Set[str], context: ReportContext
) -> list[Group]:
    """Lay out a reading as measurement groups, in the order of its findings.

    Parameters
    ----------
    reading, context
        As for `worker.report.sr.build_report`.
    viewable
        SOP Instance UIDs of the sources that are images; what was refused because it
        is none cannot be shown as one.
    """
    match reading:
        case Analysed():
            return [
                group
                for finding in reading.findings
                for group in _groups_of(finding, reading.algorithm, context)
            ]
        case NotAnalysed() | Failed():
            images = [i for i in reading.images if i.sop_instance_uid in viewable]
            return [_status_group(reading, images, context)]


def percentages(probability: float, threshold: float) -> tuple[float, float]:
    """Round probability and threshold for people, never against the decision.

    Parameters
    ----------
    probability, threshold
        0 to 1.

    Returns
    -------
    Both in percent, with two decimals, or as many more as it takes for the rounded
    pair to compare as the exact one does: 49.996 % must not read "50 % of 50 %".

    Raises
    ------
    InvalidReport
        If one is no number from 0 to 1.
    """
    for value in (probability, threshold):
        if not (math.isfinite(value) and 0 <= value <= 1):
            raise InvalidReport(
                f"probability or threshold {value} is not from 0 to 1; "
                "a report states no such number"
            )
    present = probability >= threshold
    for digits in range(2, 13):
        shown = round(100 * float(probability), digits)
        limit = round(100 * float(threshold), digits)
        if (shown >= limit) == present:
            break
    return shown, limit


def _groups_of(
    finding: Finding, algorithm: AlgorithmIdentity, context: ReportContext
) -> Iterator[Group]:
    yield _finding_group(finding, algorithm, context)
    for number, region in enumerate(finding.regions, start=1):
        identifier = f"{finding.tracking_identifier}-{number}"
        yield PlanarROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=TrackingIdentifier(
                context.region_tracking_uid(identifier), identifier
            ),
            referenced_region=image_region(region),
            finding_type=codes.concept(finding.code),
            finding_sites=finding_sites(
                finding.tracking_identifier, finding.site, finding.laterality
            ),
            algorithm_id=_algorithm_identification(algorithm, finding),
        )


def _finding_group(
    finding: Finding, algorithm: AlgorithmIdentity, context: ReportContext
) -> MeasurementsAndQualitativeEvaluations:
    shown, limit = percentages(finding.probability, finding.threshold)
    identifier = finding.tracking_identifier
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            context.tracking_uid(identifier), identifier
        ),
        finding_type=codes.concept(finding.code),
        finding_sites=finding_sites(
            finding.tracking_identifier, finding.site, finding.laterality
        ),
        algorithm_id=_algorithm_identification(algorithm, finding),
        measurements=[
            _percent(codes.PROBABILITY, shown, 100 * float(finding.probability)),
            _percent(codes.THRESHOLD_VALUE, limit, 100 * float(finding.threshold)),
        ],
        qualitative_evaluations=[
            QualitativeEvaluation(
                codes.concept(finding.code), codes.PRESENCE[finding.presence]
            )
        ],
        source_images=[source_image(image) for image in finding.images] or None,
    )


def _status_group(
    reading: NotAnalysed | Failed,
    images: Sequence[ImageReference],
    context: ReportContext,
) -> MeasurementsAndQualitativeEvaluations:
    """State that there is no answer; a number here would be read as one."""
    status = (
        codes.ANALYSIS_FAILED
        if isinstance(reading, Failed)
        else codes.ANALYSIS_NOT_ATTEMPTED
    )
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            context.tracking_uid(STATUS_IDENTIFIER), STATUS_IDENTIFIER
        ),
        algorithm_id=_algorithm_identification(reading.algorithm),
        qualitative_evaluations=[
            QualitativeEvaluation(codes.ANALYSIS_PERFORMED, status)
        ],
        source_images=[source_image(image) for image in images] or None,
    )


def _percent(name: Code, shown: float, exact: float) -> Measurement:
    measurement = Measurement(name=name, value=exact, unit=codes.PERCENT)
    # PS3.3 C.18.1: Floating Point Value holds what Numeric Value has not room for, so
    # people see the rounded number and programs get the whole one.
    value = measurement[0].MeasuredValueSequence[0]
    value.NumericValue = DS(shown, auto_format=True)
    return measurement


def _algorithm_identification(
    algorithm: AlgorithmIdentity, finding: Finding | None = None
) -> AlgorithmIdentification:
    parameters = [
        f"weights sha256={algorithm.weights_sha256}",
        f"model package sha256={algorithm.bundle_sha256}",
    ]
    if finding is not None:
        parameters.append(f"decision threshold={finding.threshold:g}")
    return AlgorithmIdentification(
        name=algorithm.name,
        version=algorithm.version,
        manufacturer=algorithm.manufacturer,
        parameters=[*parameters, *algorithm.parameters],
        family=codes.ARTIFICIAL_INTELLIGENCE,
    )


def finding_sites(
    name: str, site: domain.Code | None, laterality: domain.Laterality | None
) -> list[FindingSite] | None:
    """State where finding `name` is; None where nobody says.

    Raises
    ------
    InvalidReport
        If there is a side and no site.
    """
    if site is None:
        if laterality is not None:
            raise InvalidReport(
                f"finding {name!r} has a laterality and no finding site; PS3.16 TID "
                "1501 states a side of a site only"
            )
        return None
    side = None if laterality is None else codes.LATERALITY[laterality]
    return [FindingSite(codes.concept(site), laterality=side)]


def source_image(image: ImageReference) -> SourceImageForMeasurementGroup:
    """Refer to an image that a group rests on."""
    return SourceImageForMeasurementGroup(
        image.sop_class_uid, image.sop_instance_uid, _frames(image)
    )


def image_region(region: Region) -> ImageRegion:
    """Draw an outline: a polyline whose last point is its first (PS3.3 C.18.6.1.2)."""
    if len(region.points) < 3:
        raise InvalidReport(
            f"a region on {region.image.sop_instance_uid} has {len(region.points)} "
            "points; an outline takes three"
        )
    closed = np.array([*region.points, region.points[0]], dtype=np.float64)
    if not np.isfinite(closed).all():
        raise InvalidReport(
            f"a region on {region.image.sop_instance_uid} has a point that is no number"
        )
    image = region.image
    return ImageRegion(
        graphic_type=GraphicTypeValues.POLYLINE,
        graphic_data=closed,
        source_image=SourceImageForRegion(
            image.sop_class_uid, image.sop_instance_uid, _frames(image)
        ),
    )


def _frames(image: ImageReference) -> list[int] | None:
    return None if image.frame_number is None else [image.frame_number]
