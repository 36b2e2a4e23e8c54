"""What the worker asks its reading process to do, as values that cross a pipe."""

from dataclasses import dataclass
from typing import Literal

from pydantic import TypeAdapter

from core.domain import Reading

__all__ = [
    "ReadingOrder",
    "ReportOrder",
    "ReportSummary",
    "SourceInstance",
    "reading_order",
    "report_order",
    "report_summary",
]


@dataclass(frozen=True)
class SourceInstance:
    """One instance of the content set and where its bytes lie."""

    path: str
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str


@dataclass(frozen=True)
class ReadingOrder:
    """Read these instances with this model package."""

    study_instance_uid: str
    bundle_sha256: str
    instances: tuple[SourceInstance, ...]
    time_limit_s: float


@dataclass(frozen=True)
class PredecessorOrder:
    """The report that this one takes the place of."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str


@dataclass(frozen=True)
class ReportOrder:
    """Write the report of this reading, in each of these SR classes."""

    study_instance_uid: str
    model: str
    model_version: str
    bundle_sha256: str
    content_set: str
    document_kind: Literal["reading", "failure"]
    reading: Reading
    instances: tuple[SourceInstance, ...]
    sop_class_uids: tuple[str, ...]
    predecessors: tuple[PredecessorOrder, ...]
    """At most one of each class."""
    series_number: int
    installation_uid: str
    created_at: float
    """Seconds since 1970, UTC; the same for every writing of this report."""
    time_limit_s: float


@dataclass(frozen=True)
class ReportSummary:
    """What became of one document: enough for its row."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    sha256: str
    """Of the whole file, its name in the store."""
    bytes: int


reading_order: TypeAdapter[ReadingOrder] = TypeAdapter(ReadingOrder)
report_order: TypeAdapter[ReportOrder] = TypeAdapter(ReportOrder)
report_summary: TypeAdapter[ReportSummary] = TypeAdapter(ReportSummary)
