"""Fills the catalogue behind the receive path, and keeps it in step.

Receiving only notes a Study Instance UID; one header of each new series is read here,
later. What no note was made of (reports of the worker, what a killed node left) is
found by comparing catalogue and index, at start-up and now and then.
"""

import json
import threading
import time
from collections.abc import Callable

from sqlalchemy import select

from core.database import catalogue
from core.database.catalogue import CataloguedStudy, StoredObject
from core.database.engine import Database
from core.database.schema import report, study
from core.errors import InvalidInstance, StoreUnavailable
from core.log import get_log
from dicom_node.instance_store import InstanceStore
from dicom_node.query.attributes import CATALOGUED_SERIES, CATALOGUED_STUDY, Tags
from dicom_node.query.json_model import JsonModel, to_json_model
from dicom_node.query.matching import fold_name
from dicom_node.query.stored_files import object_path, read_header

__all__ = ["Cataloguer"]

# So many studies are catalogued before somebody who wants to stop is heard.
_STUDIES_A_STEP = 100
# How long a study's first instances are left to gather.
_DELAY_S = 0.2
# How often the worker's new reports are looked for.
_LOOK_S = 1.0
# How often catalogue and index are compared as a whole.
_COMPARE_S = 300.0
_LONGEST_INLINE = 256


class Cataloguer:
    """Adds studies and series to the catalogue, from one instance of each series.

    Parameters
    ----------
    database, store
        Index and files.
    clock
        Seconds that only go forward.
    """

    def __init__(
        self,
        database: Database,
        store: InstanceStore,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._noted: set[str] = set()
        self._compare_at = -float("inf")
        self._last_report = 0

    def note(self, study_instance_uid: str) -> None:
        """Remember that a study got an instance; called from the receive path."""
        with self._lock:
            self._noted.add(study_instance_uid)

    def step(self) -> float:
        """Catalogue what is new.

        Returns
        -------
        Seconds until there may be something to do again.
        """
        with self._lock:
            count = min(_STUDIES_A_STEP, len(self._noted))
            noted = [self._noted.pop() for _ in range(count)]
        try:
            for uid in noted:
                self._catalogue_noted(uid)
        except StoreUnavailable:
            with self._lock:
                self._noted.update(noted)
            raise
        self._look_for_reports()
        if self._clock() >= self._compare_at and not self.compare(_STUDIES_A_STEP):
            self._compare_at = self._clock() + _COMPARE_S
        with self._lock:
            waiting = bool(self._noted)
        return _DELAY_S if waiting or self._compare_at < self._clock() else _LOOK_S

    def compare(self, limit: int) -> int:
        """Catalogue what index and catalogue do not have in common.

        Returns
        -------
        How many studies were catalogued; less than `limit` when nothing is left.
        """
        with self._database.read() as connection:
            missing = catalogue.studies_not_catalogued(connection, limit)
        return sum(self.catalogue_study(study_id) for study_id in missing)

    def catalogue_study(self, study_id: int) -> bool:
        """Add what is not known of a study; False if there is nothing."""
        with self._database.read() as connection:
            objects = catalogue.missing_series(connection, study_id)
            known = catalogue.has_study(connection, study_id)
        if not objects:
            return False
        read = [(found, self._attributes(found)) for found in objects]
        with self._database.write() as connection:
            if not known:
                found, model = read[0]
                catalogue.add_study(connection, _study_row(study_id, found, model))
            for found, model in read:
                series = _picked(model, CATALOGUED_SERIES)
                catalogue.add_series(
                    connection,
                    study_id,
                    series_instance_uid=found.series_instance_uid,
                    modality=_first(series, Tags.MODALITY),
                    attributes=_written(series),
                )
        return True

    def _catalogue_noted(self, study_instance_uid: str) -> None:
        with self._database.read() as connection:
            study_id = connection.execute(
                select(study.c.id).where(
                    study.c.study_instance_uid == study_instance_uid
                )
            ).scalar()
        if study_id is not None:
            self.catalogue_study(int(study_id))

    def _look_for_reports(self) -> None:
        with self._database.read() as connection:
            rows = connection.execute(
                select(report.c.id, report.c.study_id)
                .where(report.c.id > self._last_report)
                .order_by(report.c.id)
                .limit(_STUDIES_A_STEP)
            ).all()
        for study_id in dict.fromkeys(row.study_id for row in rows):
            self.catalogue_study(study_id)
        if rows:
            self._last_report = rows[-1].id

    def _attributes(self, found: StoredObject) -> JsonModel:
        """Read what the catalogue keeps; of an unreadable file these are its UIDs."""
        try:
            header = read_header(
                object_path(self._store, found), (*CATALOGUED_STUDY, *CATALOGUED_SERIES)
            )
            model = to_json_model(
                header.dataset, bulk_data_uri=None, threshold=_LONGEST_INLINE
            )
        except (InvalidInstance, StoreUnavailable) as error:
            get_log().warning(
                "header_unreadable",
                sop_instance_uid=found.sop_instance_uid,
                error=str(error),
            )
            model = {}
        for tag, uid in (
            (Tags.STUDY_INSTANCE_UID, found.study_instance_uid),
            (Tags.SERIES_INSTANCE_UID, found.series_instance_uid),
        ):
            model[f"{tag:08X}"] = {"vr": "UI", "Value": [uid]}
        return model


def _study_row(study_id: int, found: StoredObject, model: JsonModel) -> CataloguedStudy:
    attributes = _picked(model, CATALOGUED_STUDY)
    return CataloguedStudy(
        study_id=study_id,
        study_instance_uid=found.study_instance_uid,
        patient_name=fold_name(_first(attributes, Tags.PATIENT_NAME)),
        patient_id=_first(attributes, Tags.PATIENT_ID),
        study_date=_first(attributes, Tags.STUDY_DATE).replace(".", ""),
        accession_number=_first(attributes, Tags.ACCESSION_NUMBER),
        attributes=_written(attributes),
    )


def _picked(model: JsonModel, tags: tuple[int, ...]) -> JsonModel:
    names = (f"{tag:08X}" for tag in tags)
    return {name: model[name] for name in names if name in model}


def _first(model: JsonModel, tag: int) -> str:
    values = model.get(f"{tag:08X}", {}).get("Value") or [""]
    value = values[0]
    if isinstance(value, dict):
        groups = ("Alphabetic", "Ideographic", "Phonetic")
        return "=".join(value.get(group, "") for group in groups).rstrip("=")
    return "" if value is None else str(value).replace("\0", "").strip()


def _written(model: JsonModel) -> str:
    # PostgreSQL's text holds no NUL; neither does any VR that is kept here.
    return json.dumps(model, separators=(",", ":")).replace("\\u0000", "")
