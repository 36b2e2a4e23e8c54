"""The catalogue: what queries ask for, one row a study and one a series.

The index knows instances and no patients; it stays so, because it is written with every
instance. The catalogue is written behind it, from one instance of each series, and can
be made again from the store at any time. It holds patient data, in these two tables and
nowhere else in the database; a study that is forgotten takes its rows with it.

Instances have no row here: their UIDs and classes are in the index, and everything else
is in their files.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    ForeignKey,
    Index,
    Integer,
    Select,
    String,
    Table,
    Text,
    UniqueConstraint,
    and_,
    delete,
    func,
    insert,
    literal,
    select,
)
from sqlalchemy.exc import IntegrityError

from core.database.schema import instance, metadata, report, series, shelf, study
from core.uids import uid_hash

__all__ = [
    "CataloguedSeries",
    "CataloguedStudy",
    "StoredObject",
    "add_series",
    "add_study",
    "catalogue_series",
    "catalogue_study",
    "clear_catalogue",
    "conditions_of_contents",
    "counts_of_series",
    "counts_of_studies",
    "has_study",
    "missing_series",
    "modalities_of_studies",
    "series_page",
    "sop_classes_of_studies",
    "stored_objects",
    "studies_not_catalogued",
    "study_page",
]

_EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
_PAGE = 500
"""Below SQLite's limit on the number of values in one statement."""

catalogue_study = Table(
    "catalogue_study",
    metadata,
    Column("study_id", ForeignKey("study.id", ondelete="CASCADE"), primary_key=True),
    Column("study_instance_uid", String(64), nullable=False, unique=True),
    # Folded as `dicom_node.query.matching` folds names, groups separated by "=".
    Column("patient_name", Text, nullable=False),
    Column("patient_id", Text, nullable=False, index=True),
    Column("study_date", Text, nullable=False, index=True),
    Column("accession_number", Text, nullable=False, index=True),
    # DICOM JSON (PS3.18 F) of the attributes of study level.
    Column("attributes", Text, nullable=False),
)

catalogue_series = Table(
    "catalogue_series",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", ForeignKey("study.id", ondelete="CASCADE"), nullable=False),
    Column("series_instance_uid", String(64), nullable=False, index=True),
    Column("modality", Text, nullable=False),
    # DICOM JSON of the attributes of series level.
    Column("attributes", Text, nullable=False),
    UniqueConstraint("study_id", "series_instance_uid"),
    Index("ix_catalogue_series_modality_study_id", "modality", "study_id"),
)


@dataclass(frozen=True)
class CataloguedStudy:
    """One row of the catalogue's studies."""

    study_id: int
    study_instance_uid: str
    patient_name: str
    """Folded; what is shown stands in `attributes`."""
    patient_id: str
    study_date: str
    accession_number: str
    attributes: str
    """DICOM JSON."""


@dataclass(frozen=True)
class CataloguedSeries:
    """One row of the catalogue's series, and its study's."""

    id: int
    study_id: int
    study_instance_uid: str
    series_instance_uid: str
    modality: str
    attributes: str
    """DICOM JSON of the series."""
    study_attributes: str
    """DICOM JSON of the study."""


@dataclass(frozen=True)
class StoredObject:
    """One object of a study: an instance that was received, or a report of ours."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    sha256: str
    """Its name in the store."""
    bytes: int
    is_report: bool
    """Whether its file lies among the reports."""


# -- filling ---------------------------------------------------------------------------


def studies_not_catalogued(connection: Connection, limit: int = _PAGE) -> list[int]:
    """Find studies with a series that the catalogue does not know.

    Returns
    -------
    Row ids of `study`, at most `limit` of them, ascending.
    """
    of_instances = select(series.c.study_id).where(
        ~_catalogued(series.c.study_id, series.c.series_instance_uid)
    )
    of_reports = select(report.c.study_id).where(
        ~_catalogued(report.c.study_id, report.c.series_instance_uid)
    )
    found: set[int] = set()
    for query in (of_instances, of_reports):
        column = query.selected_columns[0]
        rows = connection.execute(query.distinct().order_by(column).limit(limit))
        found |= set(rows.scalars())
    return sorted(found)[:limit]


def _catalogued(
    study_id: ColumnElement[int], series_instance_uid: ColumnElement[str]
) -> ColumnElement[bool]:
    return (
        select(catalogue_series.c.id)
        .where(
            catalogue_series.c.study_id == study_id,
            catalogue_series.c.series_instance_uid == series_instance_uid,
        )
        .exists()
    )


def missing_series(connection: Connection, study_id: int) -> list[StoredObject]:
    """Return one object of each series that the catalogue does not know.

    Images come first, then the order of arrival: the first makes the study's row.
    """
    chosen: dict[str, StoredObject] = {}
    rows = connection.execute(
        _instances()
        .where(
            instance.c.study_id == study_id,
            ~_catalogued(series.c.study_id, series.c.series_instance_uid),
        )
        .order_by(instance.c.own_result, instance.c.is_image.desc(), instance.c.id)
    )
    for row in rows:
        chosen.setdefault(row.series_instance_uid, _instance_object(row))
    rows = connection.execute(
        _reports()
        .where(
            report.c.study_id == study_id,
            ~_catalogued(report.c.study_id, report.c.series_instance_uid),
        )
        .order_by(report.c.id)
    )
    for row in rows:
        chosen.setdefault(row.series_instance_uid, _report_object(row))
    return list(chosen.values())


def has_study(connection: Connection, study_id: int) -> bool:
    """Tell whether a study has a row in the catalogue."""
    query = select(catalogue_study.c.study_id).where(
        catalogue_study.c.study_id == study_id
    )
    return connection.execute(query).first() is not None


def add_study(connection: Connection, row: CataloguedStudy) -> None:
    """Add a study; one that is known already, or forgotten, changes nothing."""
    _add(connection, insert(catalogue_study).values(**vars(row)))


def add_series(
    connection: Connection,
    study_id: int,
    *,
    series_instance_uid: str,
    modality: str,
    attributes: str,
) -> None:
    """Add a series; one that is known already, or forgotten, changes nothing."""
    _add(
        connection,
        insert(catalogue_series).values(
            study_id=study_id,
            series_instance_uid=series_instance_uid,
            modality=modality,
            attributes=attributes,
        ),
    )


def _add(connection: Connection, statement: object) -> None:
    try:
        with connection.begin_nested():
            connection.execute(statement)  # type: ignore[call-overload]
    except IntegrityError:
        return  # another process was first, or the study is forgotten


def clear_catalogue(connection: Connection) -> int:
    """Empty the catalogue, so that it is made again; return how many studies it had."""
    connection.execute(delete(catalogue_series))
    return connection.execute(delete(catalogue_study)).rowcount


# -- reading ---------------------------------------------------------------------------


def study_page(
    connection: Connection,
    conditions: Sequence[ColumnElement[bool]],
    *,
    before: int | None,
    limit: int = _PAGE,
    offset: int = 0,
) -> list[CataloguedStudy]:
    """Return a page of studies, the last received first.

    Parameters
    ----------
    connection
        A reading transaction.
    conditions
        On the columns of `catalogue_study`.
    before
        `study_id` of the last row of the page before.
    limit
        How many at most.
    offset
        How many are left out before the first.
    """
    query = (
        select(catalogue_study)
        .where(*conditions)
        .order_by(catalogue_study.c.study_id.desc())
        .limit(limit)
        .offset(offset)
    )
    if before is not None:
        query = query.where(catalogue_study.c.study_id < before)
    return [CataloguedStudy(**row._mapping) for row in connection.execute(query)]


def series_page(
    connection: Connection,
    conditions: Sequence[ColumnElement[bool]],
    *,
    after: int,
    limit: int = _PAGE,
) -> list[CataloguedSeries]:
    """Return a page of series in the order of their arrival.

    Parameters
    ----------
    connection
        A reading transaction.
    conditions
        On the columns of `catalogue_study` and `catalogue_series`.
    after
        `id` of the last row of the page before, 0 for the first page.
    limit
        How many at most.
    """
    query = (
        select(
            catalogue_series,
            catalogue_study.c.study_instance_uid,
            catalogue_study.c.attributes.label("study_attributes"),
        )
        .join(
            catalogue_study, catalogue_study.c.study_id == catalogue_series.c.study_id
        )
        .where(*conditions, catalogue_series.c.id > after)
        .order_by(catalogue_series.c.id)
        .limit(limit)
    )
    return [CataloguedSeries(**row._mapping) for row in connection.execute(query)]


def counts_of_studies(
    connection: Connection, study_ids: Collection[int]
) -> dict[int, tuple[int, int]]:
    """Count series and objects of some studies, reports of ours included."""
    counts = dict.fromkeys(study_ids, (0, 0))
    own = _reports_not_received(report.c.study_id.in_(study_ids))
    reports: dict[int, int] = {}
    for study_id, count in connection.execute(
        own.with_only_columns(report.c.study_id, func.count()).group_by(
            report.c.study_id
        )
    ):
        reports[study_id] = count
    rows = connection.execute(
        select(
            study.c.id,
            study.c.instance_count,
            func.count(catalogue_series.c.id).label("series"),
        )
        .outerjoin(catalogue_series, catalogue_series.c.study_id == study.c.id)
        .where(study.c.id.in_(study_ids))
        .group_by(study.c.id)
    )
    for row in rows:
        counts[row.id] = (row.series, row.instance_count + reports.get(row.id, 0))
    return counts


def modalities_of_studies(
    connection: Connection, study_ids: Collection[int]
) -> dict[int, list[str]]:
    """Return the modalities of some studies, in the order of their arrival."""
    found: dict[int, list[str]] = {identifier: [] for identifier in study_ids}
    rows = connection.execute(
        select(catalogue_series.c.study_id, catalogue_series.c.modality)
        .where(catalogue_series.c.study_id.in_(study_ids))
        .order_by(catalogue_series.c.id)
    )
    for row in rows:
        if row.modality and row.modality not in found[row.study_id]:
            found[row.study_id].append(row.modality)
    return found


def sop_classes_of_studies(
    connection: Connection, study_ids: Collection[int]
) -> dict[int, list[str]]:
    """Return the SOP classes of some studies, sorted."""
    found: dict[int, set[str]] = {identifier: set() for identifier in study_ids}
    for table in (instance, report):
        rows = connection.execute(
            select(table.c.study_id, table.c.sop_class_uid)
            .where(table.c.study_id.in_(study_ids))
            .distinct()
        )
        for row in rows:
            found[row.study_id].add(row.sop_class_uid)
    return {identifier: sorted(uids) for identifier, uids in found.items()}


def counts_of_series(
    connection: Connection, study_ids: Collection[int]
) -> dict[tuple[int, str], int]:
    """Count the objects of each series of some studies."""
    counts: dict[tuple[int, str], int] = {}
    received = (
        select(series.c.study_id, series.c.series_instance_uid, func.count())
        .join(instance, instance.c.series_id == series.c.id)
        .where(series.c.study_id.in_(study_ids))
        .group_by(series.c.study_id, series.c.series_instance_uid)
    )
    own = (
        _reports_not_received(report.c.study_id.in_(study_ids))
        .with_only_columns(
            report.c.study_id, report.c.series_instance_uid, func.count()
        )
        .group_by(report.c.study_id, report.c.series_instance_uid)
    )
    for query in (received, own):
        for study_id, uid, count in connection.execute(query):
            counts[study_id, uid] = counts.get((study_id, uid), 0) + count
    return counts


def conditions_of_contents(
    *,
    sop_instance_uids: Collection[str] = (),
    sop_class_uids: Collection[str] = (),
) -> ColumnElement[bool]:
    """Return the condition that a study (`catalogue_study`) holds such objects."""
    column = catalogue_study.c.study_id
    found: list[ColumnElement[bool]] = []
    for table in (instance, report):
        query = select(table.c.study_id)
        if sop_instance_uids:
            query = query.where(_is_one_of(table, sop_instance_uids))
        if sop_class_uids:
            query = query.where(table.c.sop_class_uid.in_(sop_class_uids))
        # Few are found by their UIDs; a class is looked for study by study.
        if sop_instance_uids:
            found.append(column.in_(query))
        else:
            found.append(query.where(table.c.study_id == column).exists())
    return found[0] | found[1]


def _is_one_of(table: Table, sop_instance_uids: Collection[str]) -> ColumnElement[bool]:
    uids = [uid for uid in sop_instance_uids if uid.isascii()]
    named = table.c.sop_instance_uid.in_(uids)
    if table is not instance:
        return named
    # The index is ordered by shelf and hash (core.database.shelves).
    return and_(
        instance.c.shelf.in_(select(shelf.c.id)),
        instance.c.uid_hash.in_([uid_hash(uid) for uid in uids]),
        named,
    )


def stored_objects(
    connection: Connection,
    *,
    study_instance_uid: str | None = None,
    series_instance_uid: str | None = None,
    sop_instance_uids: Collection[str] = (),
    sop_class_uids: Collection[str] = (),
    after: tuple[bool, int] = (False, 0),
    limit: int = _PAGE,
) -> tuple[list[StoredObject], tuple[bool, int] | None]:
    """Return a page of objects, received ones first, then reports of ours.

    Parameters
    ----------
    connection
        A reading transaction.
    study_instance_uid, series_instance_uid, sop_instance_uids, sop_class_uids
        Only those; empty for any.
    after
        Where the page before ended.
    limit
        How many at most.

    Returns
    -------
    The page, and where it ends; None if nothing follows.
    """
    reports_only, last = after
    if not reports_only:
        query = _instances().where(instance.c.id > last).order_by(instance.c.id)
        query = _narrowed(
            query, series.c.series_instance_uid, instance,
            study_instance_uid=study_instance_uid,
            series_instance_uid=series_instance_uid,
            sop_instance_uids=sop_instance_uids,
            sop_class_uids=sop_class_uids,
        )  # fmt: skip
        rows = connection.execute(query.limit(limit)).all()
        page = [_instance_object(row) for row in rows]
        end = (False, rows[-1].id) if len(rows) == limit else (True, 0)
        return page, end
    query = _reports_not_received(report.c.id > last).order_by(report.c.id)
    query = _narrowed(
        query, report.c.series_instance_uid, report,
        study_instance_uid=study_instance_uid,
        series_instance_uid=series_instance_uid,
        sop_instance_uids=sop_instance_uids,
        sop_class_uids=sop_class_uids,
    )  # fmt: skip
    rows = connection.execute(query.limit(limit)).all()
    page = [_report_object(row) for row in rows]
    return page, (True, rows[-1].id) if len(rows) == limit else None


def _narrowed(
    query: Select[tuple[object, ...]],
    series_column: ColumnElement[str],
    table: Table,
    *,
    study_instance_uid: str | None,
    series_instance_uid: str | None,
    sop_instance_uids: Collection[str],
    sop_class_uids: Collection[str],
) -> Select[tuple[object, ...]]:
    if study_instance_uid is not None:
        query = query.where(study.c.study_instance_uid == study_instance_uid)
    if series_instance_uid is not None:
        query = query.where(series_column == series_instance_uid)
    if sop_instance_uids:
        query = query.where(_is_one_of(table, sop_instance_uids))
    if sop_class_uids:
        query = query.where(table.c.sop_class_uid.in_(sop_class_uids))
    return query


def _instances() -> Select[tuple[object, ...]]:
    return (
        select(
            instance.c.id,
            study.c.study_instance_uid,
            series.c.series_instance_uid,
            instance.c.sop_instance_uid,
            instance.c.sop_class_uid,
            instance.c.transfer_syntax_uid,
            instance.c.sha256,
            instance.c.bytes,
        )
        .join(series, series.c.id == instance.c.series_id)
        .join(study, study.c.id == instance.c.study_id)
    )


def _reports() -> Select[tuple[object, ...]]:
    return select(
        report.c.id,
        study.c.study_instance_uid,
        report.c.series_instance_uid,
        report.c.sop_instance_uid,
        report.c.sop_class_uid,
        # What the worker writes, PS3.5 A.2.
        literal(_EXPLICIT_LITTLE_ENDIAN).label("transfer_syntax_uid"),
        report.c.sha256,
        report.c.bytes,
    ).join(study, study.c.id == report.c.study_id)


def _reports_not_received(
    condition: ColumnElement[bool],
) -> Select[tuple[object, ...]]:
    """Select reports; one that came back is an instance and counts once."""
    came_back = (
        select(instance.c.id)
        .where(
            instance.c.study_id == report.c.study_id,
            instance.c.sop_instance_uid == report.c.sop_instance_uid,
        )
        .exists()
    )
    return _reports().where(condition, ~came_back)


def _instance_object(row: object) -> StoredObject:
    return _object(row, is_report=False)


def _report_object(row: object) -> StoredObject:
    return _object(row, is_report=True)


def _object(row: object, *, is_report: bool) -> StoredObject:
    values = dict(row._mapping)  # type: ignore[attr-defined]
    del values["id"]
    return StoredObject(**values, is_report=is_report)
