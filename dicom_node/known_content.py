"""By which content a SOP Instance UID is known: in hand, in the inbox or in the index.

The receive path asks here before it answers, so that the same instance twice is a
duplicate and other content under its UID is refused, also before the index has a row.
"""

import threading
from collections import Counter

from core.database.engine import Database
from core.database.shelves import uid_hash
from core.database.studies import KnownInstance, known_instance
from core.database.uid_filter import UidFilter
from core.errors import ConflictingInstance, StoreUnavailable
from core.log import get_log

__all__ = ["ConflictWith", "KnownContent"]

# Look-ups at once: fewer than the database has pooled connections, so that many
# associations cannot take them all.
_LOOK_UPS = 4
_LOAD_AGAIN_S = 5.0


class ConflictWith(ConflictingInstance):
    """A conflict that knows which content stays.

    Parameters
    ----------
    kept_sha256
        Of the content that is kept.
    """

    def __init__(self, kept_sha256: str) -> None:
        super().__init__("SOP Instance UID is kept with other content; first stays")
        self.kept_sha256 = kept_sha256


class KnownContent:
    """What is known now; safe to share between threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._look_ups = threading.BoundedSemaphore(_LOOK_UPS)
        self.uids = UidFilter()
        # One node holds a data directory, and its writer feeds the filter. An index on
        # a server may have another node that writes to it.
        self._filter_proves = database.engine.dialect.name == "sqlite"
        # How many files of this content are being received or wait for the index.
        self._open: dict[str, tuple[KnownInstance, Counter[str]]] = {}

    def load(self, stopping: threading.Event) -> threading.Thread:
        """Begin to learn which UIDs the index knows, so that most need no look-up.

        Parameters
        ----------
        stopping
            Ends it early.

        Returns
        -------
        The thread that does it, in some seconds for some million instances.
        """
        thread = threading.Thread(
            target=self._load, args=(stopping,), name="uid-filter", daemon=True
        )
        thread.start()
        return thread

    def _load(self, stopping: threading.Event) -> None:
        while not stopping.is_set():
            try:
                self.uids.load(self._database, stopping.is_set)
                return
            except StoreUnavailable as error:
                get_log().warning("index_unreadable", error=str(error))
                stopping.wait(_LOAD_AGAIN_S)

    def claim(self, sop_instance_uid: str, content: KnownInstance) -> bool:
        """Ask for a UID before its content is made durable.

        Parameters
        ----------
        sop_instance_uid
            Which instance.
        content
            What is about to be kept.

        Returns
        -------
        False if the very same content is durable already: nothing is to be done.
        True if it must be made durable; then `kept` or `released` must follow.

        Raises
        ------
        ConflictWith
            If the UID is known with other content.
        """
        with self._lock:
            known, states = self._open.get(sop_instance_uid, (None, Counter[str]()))
            if known is not None:
                _same_or_conflict(known, content)
                if states["kept"]:
                    return False
        indexed = self._indexed(sop_instance_uid) if known is None else None
        if indexed is not None:
            _same_or_conflict(indexed, content)
            return False
        with self._lock:
            known, states = self._open.setdefault(
                sop_instance_uid, (content, Counter())
            )
            _same_or_conflict(known, content)
            states["in hand"] += 1
        return True

    def kept(self, sop_instance_uid: str) -> None:
        """Note that claimed content is durable in the inbox."""
        with self._lock:
            _, states = self._open[sop_instance_uid]
            states["in hand"] -= 1
            states["kept"] += 1

    def released(self, sop_instance_uid: str) -> None:
        """Note that claimed content was not kept."""
        self._close(sop_instance_uid, "in hand")

    def found(self, sop_instance_uid: str, content: KnownInstance) -> None:
        """Note durable content that a restart found in the inbox."""
        with self._lock:
            _, states = self._open.setdefault(sop_instance_uid, (content, Counter()))
            states["kept"] += 1

    def indexed(self, sop_instance_uid: str) -> None:
        """Note that one kept file of this instance is in the index now."""
        self._close(sop_instance_uid, "kept")

    def _close(self, sop_instance_uid: str, state: str) -> None:
        with self._lock:
            _, states = self._open[sop_instance_uid]
            states[state] -= 1
            if not states.total():
                del self._open[sop_instance_uid]

    def _indexed(self, sop_instance_uid: str) -> KnownInstance | None:
        if self._filter_proves and not self.uids.may_hold(uid_hash(sop_instance_uid)):
            return None
        try:
            with self._look_ups, self._database.read() as connection:
                return known_instance(connection, sop_instance_uid)
        except StoreUnavailable as error:
            # Receiving goes on; whoever writes the row will find a conflict.
            get_log().warning("index_unreadable", error=str(error))
            return None


def _same_or_conflict(known: KnownInstance, content: KnownInstance) -> None:
    if known != content:
        raise ConflictWith(known.sha256)
