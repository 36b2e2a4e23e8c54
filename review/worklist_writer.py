"""Keeps the worklist up with what happens: one thread beside the pages."""

from core.database import studies, worklist
from core.database.engine import Database
from core.database.worklist import PatientFacts
from dicom_node.instance_store import InstanceStore
from review.patient import facts_of_file

__all__ = ["WorklistWriter"]

PAUSE_S = 0.5
_EVENTS_AT_ONCE = 1000
# On PostgreSQL events can become visible out of their order; what is younger than this
# many is looked at again.
_LOOK_BACK = 200
_STUDIES_AT_ONCE = 50


class WorklistWriter:
    """Writes rows of the worklist from events.

    Parameters
    ----------
    database, store
        The index, and the headers that say whose a study is.
    """

    def __init__(self, database: Database, store: InstanceStore) -> None:
        self._database = database
        self._store = store
        with database.read() as connection:
            self._cursor = worklist.newest_event_known(connection)

    def step(self) -> float:
        """Write what has changed; return the seconds until it should look again."""
        with self._database.read() as connection:
            last = worklist.last_event(connection)
            after = max(0, self._cursor - _LOOK_BACK)
            up_to = min(last, self._cursor + _EVENTS_AT_ONCE)
            changed = dict(worklist.changed_studies(connection, after, up_to))
            for study_id in worklist.receiving_studies(connection):
                changed.setdefault(study_id, 0)
        self._write(changed)
        behind = up_to < last
        self._cursor = up_to
        return 0.0 if behind else PAUSE_S

    def catch_up(self) -> None:
        """Write everything that has happened until now."""
        while self.step() == 0.0:
            pass

    def _write(self, changed: dict[int, int]) -> None:
        numbers = sorted(changed)
        for start in range(0, len(numbers), _STUDIES_AT_ONCE):
            some = numbers[start : start + _STUDIES_AT_ONCE]
            # Files are read before the transaction: the index must not wait for them.
            patients = {study_id: self._patient(study_id) for study_id in some}
            with self._database.write() as connection:
                for study_id in some:
                    worklist.refresh(
                        connection,
                        study_id,
                        patients[study_id],
                        last_event_id=changed[study_id],
                    )

    def _patient(self, study_id: int) -> PatientFacts | None:
        """Read the first image of a study that has no row with a patient yet."""
        with self._database.read() as connection:
            if worklist.has_patient(connection, study_id):
                return None
            sha256 = studies.first_instance(connection, study_id)
        return facts_of_file(self._store.path_of(sha256)) if sha256 else None
