"""Finds studies, series and instances: the index narrows, the keys decide.

What the database can compare cheaply is asked of it; every match is then held against
the keys themselves, so that both kinds of database, and headers that are in no
database, match by the same rules. Pages are read one after the other, each in a
transaction of its own: a slow reader holds nothing, and memory does not grow with the
number of matches.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, select

from core.database import catalogue
from core.database.catalogue import (
    CataloguedSeries,
    CataloguedStudy,
    StoredObject,
    catalogue_series,
    catalogue_study,
)
from core.database.engine import Database
from core.errors import InvalidInstance, StoreUnavailable
from dicom_node.instance_store import InstanceStore
from dicom_node.query.attributes import (
    CATALOGUED_SERIES,
    CATALOGUED_STUDY,
    COMPUTED,
    Level,
    Tags,
)
from dicom_node.query.json_model import JsonModel, to_json_model
from dicom_node.query.matching import InvalidQuery, Key
from dicom_node.query.stored_files import object_path, read_header

__all__ = ["Query", "Search"]

_FIRST_PAGE = 128
_PAGE = 500
_LONGEST_INLINE = 1024
# Of these the database compares whole values as the keys do.
_EXACT = frozenset(
    {
        Tags.STUDY_INSTANCE_UID, Tags.PATIENT_ID, Tags.ACCESSION_NUMBER,
        Tags.MODALITIES_IN_STUDY,
    }
)  # fmt: skip
_WRITTEN = frozenset(CATALOGUED_STUDY)
_COLUMNS = {
    Tags.STUDY_INSTANCE_UID: catalogue_study.c.study_instance_uid,
    Tags.PATIENT_ID: catalogue_study.c.patient_id,
    Tags.ACCESSION_NUMBER: catalogue_study.c.accession_number,
    Tags.PATIENT_NAME: catalogue_study.c.patient_name,
}
# Two keys that exclude each other: no UID is empty.
_NOTHING = ("",)
_INDEXED = frozenset(
    {
        Tags.STUDY_INSTANCE_UID, Tags.SERIES_INSTANCE_UID, Tags.SOP_INSTANCE_UID,
        Tags.SOP_CLASS_UID,
    }
)  # fmt: skip
_OF_STUDY = frozenset(CATALOGUED_STUDY) | {
    Tags.MODALITIES_IN_STUDY,
    Tags.SOP_CLASSES_IN_STUDY,
    Tags.NUMBER_OF_STUDY_RELATED_SERIES,
    Tags.NUMBER_OF_STUDY_RELATED_INSTANCES,
}
_OF_SERIES = frozenset(CATALOGUED_SERIES) | {Tags.NUMBER_OF_SERIES_RELATED_INSTANCES}


@dataclass(frozen=True)
class Query:
    """What is asked for."""

    level: Level
    keys: tuple[Key, ...]
    wanted: frozenset[int] | None
    """Attributes that the answer must have where there are any; None for all."""

    def values(self, tag: int) -> tuple[str, ...]:
        """Return the exact values that a top-level key allows; empty for any."""
        found = [key.one_of for key in self.keys if key.path == (tag,) and key.one_of]
        if not found:
            return ()
        common = set(found[0]).intersection(*found)
        return tuple(uid for uid in found[0] if uid in common) or _NOTHING


class Search:
    """Answers queries from index, catalogue and files.

    Parameters
    ----------
    database, store
        Index and files.
    """

    def __init__(self, database: Database, store: InstanceStore) -> None:
        self._database = database
        self._store = store

    def find(self, query: Query, offset: int = 0) -> Iterator[JsonModel]:
        """Find what matches.

        Parameters
        ----------
        query
            What is asked for.
        offset
            How many matches are left out before the first.

        Returns
        -------
        One data set a match, with everything the catalogue or the header knows of it;
        lazily, in a stable order.

        Raises
        ------
        InvalidQuery
            If it would have to look into every file of the store.
        StoreUnavailable
            If the index cannot be read.
        """
        match query.level:
            case Level.STUDY:
                return self._studies(query, offset)
            case Level.SERIES:
                found = (model for _, model in self._series(query, query.keys))
                return islice(found, offset, None)
            case Level.IMAGE:
                return islice(self._instances(query), offset, None)

    # -- studies -----------------------------------------------------------------------

    def _studies(self, query: Query, offset: int) -> Iterator[JsonModel]:
        conditions = _study_conditions(query)
        keys = [key for key in query.keys if not _decided_by_database(key)]
        # What is counted is counted for those that match in everything else.
        counted = [key for key in keys if key.path[0] in _STUDY_COUNTS]
        kept = [key for key in keys if key not in counted]
        skipped = 0 if keys else offset
        left = offset - skipped
        before: int | None = None
        size = _FIRST_PAGE
        while True:
            with self._database.read() as connection:
                page = catalogue.study_page(
                    connection, conditions, before=before, limit=size, offset=skipped
                )
                rows = [(row, json.loads(row.attributes)) for row in page]
                rows = [
                    (row, model)
                    for row, model in rows
                    if all(key.holds(model) for key in kept)
                ]
                if not counted:
                    drop = min(left, len(rows))
                    left, rows = left - drop, rows[drop:]
                models = _study_models(connection, rows, query)
            for model in models:
                if all(key.holds(model) for key in counted):
                    if left:
                        left -= 1
                    else:
                        yield model
            if len(page) < size:
                return
            before, size, skipped = page[-1].study_id, _PAGE, 0

    # -- series ------------------------------------------------------------------------

    def _series(
        self, query: Query, keys: Sequence[Key]
    ) -> Iterator[tuple[CataloguedSeries, JsonModel]]:
        conditions = [*_study_conditions(query), *_series_conditions(query)]
        keys = [key for key in keys if key.path[0] not in _CONTENTS]
        after = 0
        while True:
            with self._database.read() as connection:
                page = catalogue.series_page(
                    connection, conditions, after=after, limit=_PAGE
                )
                models = _series_models(connection, page, query)
            for row, model in zip(page, models, strict=True):
                if all(key.holds(model) for key in keys):
                    yield row, model
            if len(page) < _PAGE:
                return
            after = page[-1].id

    # -- instances ---------------------------------------------------------------------

    def _instances(self, query: Query) -> Iterator[JsonModel]:
        above = [key for key in query.keys if key.path[0] in _OF_STUDY | _OF_SERIES]
        own = [key for key in query.keys if key not in above]
        headers = [key for key in own if key.path[0] not in _INDEXED]
        narrowed = above or any(query.values(tag) for tag in _UIDS)
        if headers and not narrowed:
            raise InvalidQuery(
                "this query would read every instance that is here; name a study or a "
                "series, or match an attribute of study or series"
            )
        beyond = [key for key in above if key.path[0] not in _INDEXED]
        for found in self._objects(query, beyond):
            model = self._instance_model(found, query)
            if model is not None and all(key.holds(model) for key in headers):
                yield model

    def _objects(self, query: Query, beyond: list[Key]) -> Iterator[StoredObject]:
        studies = query.values(Tags.STUDY_INSTANCE_UID)
        series = query.values(Tags.SERIES_INSTANCE_UID)
        if not beyond and len(studies) <= 1 and len(series) <= 1:
            yield from self.objects(
                study_instance_uid=studies[0] if studies else None,
                series_instance_uid=series[0] if series else None,
                sop_instance_uids=query.values(Tags.SOP_INSTANCE_UID),
                sop_class_uids=query.values(Tags.SOP_CLASS_UID),
            )
            return
        above = [key for key in query.keys if key.path[0] in _OF_STUDY | _OF_SERIES]
        for row, _ in self._series(query, above):
            yield from self.objects(
                study_instance_uid=row.study_instance_uid,
                series_instance_uid=row.series_instance_uid,
                sop_instance_uids=query.values(Tags.SOP_INSTANCE_UID),
                sop_class_uids=query.values(Tags.SOP_CLASS_UID),
            )

    def objects(
        self,
        *,
        study_instance_uid: str | None = None,
        series_instance_uid: str | None = None,
        sop_instance_uids: Sequence[str] = (),
        sop_class_uids: Sequence[str] = (),
    ) -> Iterator[StoredObject]:
        """Return what the store holds of these, page by page."""
        after: tuple[bool, int] | None = (False, 0)
        while after is not None:
            with self._database.read() as connection:
                page, after = catalogue.stored_objects(
                    connection,
                    study_instance_uid=study_instance_uid,
                    series_instance_uid=series_instance_uid,
                    sop_instance_uids=sop_instance_uids,
                    sop_class_uids=sop_class_uids,
                    after=after,
                )
            yield from page

    def _instance_model(self, found: StoredObject, query: Query) -> JsonModel | None:
        tags = None
        if query.wanted is not None:
            asked = {key.path[0] for key in query.keys} | query.wanted
            tags = sorted(asked - COMPUTED)
        try:
            header = read_header(object_path(self._store, found), tags)
        except (InvalidInstance, StoreUnavailable):
            return None  # forgotten meanwhile, or a file that nobody can read
        model = to_json_model(
            header.dataset, bulk_data_uri=None, threshold=_LONGEST_INLINE
        )
        _put(model, Tags.STUDY_INSTANCE_UID, "UI", found.study_instance_uid)
        _put(model, Tags.SERIES_INSTANCE_UID, "UI", found.series_instance_uid)
        _put(model, Tags.SOP_INSTANCE_UID, "UI", found.sop_instance_uid)
        _put(model, Tags.SOP_CLASS_UID, "UI", found.sop_class_uid)
        _put(model, Tags.INSTANCE_AVAILABILITY, "CS", "ONLINE")
        _put(
            model, Tags.AVAILABLE_TRANSFER_SYNTAX_UID, "UI", header.transfer_syntax_uid
        )
        return model


_UIDS = (Tags.STUDY_INSTANCE_UID, Tags.SERIES_INSTANCE_UID, Tags.SOP_INSTANCE_UID)
# Answered by the database alone where the level is above the instance.
_CONTENTS = frozenset({Tags.SOP_INSTANCE_UID, Tags.SOP_CLASS_UID})


def _study_models(
    connection: Any, rows: Sequence[tuple[CataloguedStudy, JsonModel]], query: Query
) -> list[JsonModel]:
    ids = [row.study_id for row, _ in rows]
    if not ids:
        return []
    counts = catalogue.counts_of_studies(connection, ids)
    modalities = catalogue.modalities_of_studies(connection, ids)
    wanted = query.wanted is None or Tags.SOP_CLASSES_IN_STUDY in query.wanted
    asked = any(key.path[0] == Tags.SOP_CLASSES_IN_STUDY for key in query.keys)
    classes = (
        catalogue.sop_classes_of_studies(connection, ids) if wanted or asked else {}
    )
    models = []
    for row, model in rows:
        series, instances = counts[row.study_id]
        _put(model, Tags.INSTANCE_AVAILABILITY, "CS", "ONLINE")
        _put(model, Tags.MODALITIES_IN_STUDY, "CS", *modalities[row.study_id])
        _put(model, Tags.NUMBER_OF_STUDY_RELATED_SERIES, "IS", series)
        _put(model, Tags.NUMBER_OF_STUDY_RELATED_INSTANCES, "IS", instances)
        if row.study_id in classes:
            _put(model, Tags.SOP_CLASSES_IN_STUDY, "UI", *classes[row.study_id])
        models.append(model)
    return models


def _series_models(
    connection: Any, page: Sequence[CataloguedSeries], query: Query
) -> list[JsonModel]:
    if not page:
        return []
    ids = sorted({row.study_id for row in page})
    counts = catalogue.counts_of_series(connection, ids)
    asked = {key.path[0] for key in query.keys} | (query.wanted or frozenset())
    of_studies: dict[int, JsonModel] = {}
    if query.wanted is None or asked & _STUDY_COUNTS:
        rows = catalogue.study_page(
            connection,
            [catalogue_study.c.study_id.in_(ids)],
            before=None,
            limit=len(ids),
        )
        read = [(row, json.loads(row.attributes)) for row in rows]
        models = _study_models(connection, read, query)
        of_studies = {
            row.study_id: model for row, model in zip(rows, models, strict=True)
        }
    models = []
    for row in page:
        model: JsonModel = of_studies.get(row.study_id) or json.loads(
            row.study_attributes
        )
        model = {**model, **json.loads(row.attributes)}
        _put(model, Tags.INSTANCE_AVAILABILITY, "CS", "ONLINE")
        count = counts.get((row.study_id, row.series_instance_uid), 0)
        _put(model, Tags.NUMBER_OF_SERIES_RELATED_INSTANCES, "IS", count)
        models.append(model)
    return models


_STUDY_COUNTS = frozenset(
    {
        Tags.MODALITIES_IN_STUDY, Tags.SOP_CLASSES_IN_STUDY,
        Tags.NUMBER_OF_STUDY_RELATED_SERIES, Tags.NUMBER_OF_STUDY_RELATED_INSTANCES,
    }
)  # fmt: skip


def _put(model: JsonModel, tag: int, vr: str, *values: str | int) -> None:
    model[f"{tag:08X}"] = {"vr": vr, "Value": list(values)} if values else {"vr": vr}


def _study_conditions(query: Query) -> list[ColumnElement[bool]]:
    conditions = [one for key in query.keys for one in _conditions_of(key)]
    instances = query.values(Tags.SOP_INSTANCE_UID)
    classes = query.values(Tags.SOP_CLASS_UID) or query.values(
        Tags.SOP_CLASSES_IN_STUDY
    )
    if instances or classes:
        conditions.append(
            catalogue.conditions_of_contents(
                sop_instance_uids=instances, sop_class_uids=classes
            )
        )
    return conditions


def _conditions_of(key: Key) -> list[ColumnElement[bool]]:
    tag = key.path[0]
    if len(key.path) > 1:
        return []
    if tag in _COLUMNS:
        return _equal_or_like(_COLUMNS[tag], key)
    if tag == Tags.STUDY_DATE:
        return _within(catalogue_study.c.study_date, key)
    if tag == Tags.MODALITIES_IN_STUDY and key.one_of:
        of_series = select(catalogue_series.c.study_id).where(
            catalogue_series.c.modality.in_(key.one_of)
        )
        return [catalogue_study.c.study_id.in_(of_series)]
    return _mentioned(key) if tag in _WRITTEN else []


def _series_conditions(query: Query) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    for key in query.keys:
        if key.path == (Tags.SERIES_INSTANCE_UID,):
            conditions += _equal_or_like(catalogue_series.c.series_instance_uid, key)
        elif key.path == (Tags.MODALITY,):
            conditions += _equal_or_like(catalogue_series.c.modality, key)
    return conditions


def _equal_or_like(column: ColumnElement[str], key: Key) -> list[ColumnElement[bool]]:
    if key.one_of:
        return [column.in_(key.one_of)]
    # The key itself decides; simple patterns cost the database little.
    return [column.contains(text, autoescape=True) for text in key.fragments]


def _mentioned(key: Key) -> list[ColumnElement[bool]]:
    """Narrow to rows whose JSON has the text somewhere; the key itself decides."""
    column = catalogue_study.c.attributes
    if key.vr == "PN":
        return []  # folded for comparing, and not in the JSON
    texts = key.fragments or (key.one_of if len(key.one_of) == 1 else ())
    return [column.contains(json.dumps(one)[1:-1], autoescape=True) for one in texts]


def _decided_by_database(key: Key) -> bool:
    """Tell whether the conditions of a study say all that the key does."""
    if len(key.path) > 1:
        return False
    tag = key.path[0]
    if tag in _CONTENTS:
        return True
    if tag == Tags.STUDY_DATE:
        return bool(key.least or key.most)
    return tag in _EXACT and bool(key.one_of)


def _within(column: ColumnElement[str], key: Key) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if key.least:
        conditions.append(column >= key.least)
    if key.most:
        conditions.append(column <= key.most)
    if conditions:
        conditions.append(column != "")
    return conditions
