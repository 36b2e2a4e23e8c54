"""By which content a SOP Instance UID is known: in hand, on its way or in the index.

The receive path asks here before it answers, so that the same instance twice is a
duplicate and other content under its UID is refused, also before the index has a row,
and whichever listener took it in.
"""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from core.database.uid_filter import UidFilter
from core.errors import ConflictingInstance, StoreUnavailable
from core.log import get_log
from core.received import KnownInstance
from core.uids import uid_hash
from dicom_node.shared_state import Claims, SharedLock

__all__ = ["Claim", "ConflictWith", "KnownContent", "OnTheirWay"]

# Look-ups at once: fewer than the database has pooled connections, so that many
# associations cannot take them all.
_LOOK_UPS = 4


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


@dataclass(frozen=True)
class OnTheirWay:
    """What the listeners and the index writer of one node share."""

    lock: SharedLock
    filter_proves: bool = True
    """Whether nobody else writes to the index, so that the filter knows all of it."""
    claims: Claims = field(default_factory=Claims)
    uids: UidFilter = field(default_factory=UidFilter)

    def found(self, sop_instance_uid: str, content: KnownInstance) -> None:
        """Note durable content that a restart found and the index may not know."""
        key = _key(sop_instance_uid)
        with self.lock:
            if self.claims.find(key) is None:
                slot = self.claims.add(
                    key, bytes.fromhex(content.sha256), _syntax(content), 0
                )
                self.claims.keep(slot, key)

    def indexed(self, sop_instance_uids: Iterable[str]) -> None:
        """Note that instances are in the index now, and so in the filter."""
        with self.lock:
            for uid in sop_instance_uids:
                self.claims.remove(_key(uid))

    def certainly_new(self, sop_instance_uid: str) -> bool:
        """Tell whether the index need not be asked."""
        return self.filter_proves and not self.uids.may_hold(uid_hash(sop_instance_uid))


@dataclass(frozen=True, slots=True)
class Claim:
    """A UID that is claimed for content in hand."""

    key: int
    slot: int


class KnownContent:
    """What is known now, as one listener sees it; safe to share between threads.

    Parameters
    ----------
    shared
        With the other listeners and the index writer.
    look_up
        Asks the index by which content a UID is known.
    owner
        Which listener this is.
    """

    def __init__(
        self,
        shared: OnTheirWay,
        look_up: Callable[[str], KnownInstance | None],
        owner: int = 0,
    ) -> None:
        self._shared = shared
        self._look_up = look_up
        self._owner = owner
        self._look_ups = threading.BoundedSemaphore(_LOOK_UPS)

    def claim(self, sop_instance_uid: str, content: KnownInstance) -> Claim | None:
        """Ask for a UID before its content is made durable.

        Parameters
        ----------
        sop_instance_uid
            Which instance.
        content
            What is about to be kept.

        Returns
        -------
        None if the very same content is durable already: nothing is to be done.
        Otherwise it must be made durable; then `kept` or `released` must follow.

        Raises
        ------
        ConflictWith
            If the UID is known with other content.
        StoreUnavailable
            If too many instances wait for the index.
        """
        key = _key(sop_instance_uid)
        shared = self._shared
        with shared.lock:
            # Under the lock, because the index may take a claim over just now.
            if shared.claims.find(key) or shared.certainly_new(sop_instance_uid):
                return self._take(key, content)
        indexed = self._indexed(sop_instance_uid)
        if indexed is not None:
            if indexed != content:
                raise ConflictWith(indexed.sha256)
            return None
        with self._shared.lock:
            return self._take(key, content)

    def kept(self, claim: Claim) -> None:
        """Note that claimed content is durable."""
        self._shared.claims.keep(claim.slot, claim.key)

    def released(self, claim: Claim) -> None:
        """Note that claimed content was not kept."""
        with self._shared.lock:
            self._shared.claims.release(claim.slot, claim.key)

    def _take(self, key: int, content: KnownInstance) -> Claim | None:
        claims = self._shared.claims
        sha256 = bytes.fromhex(content.sha256)
        found = claims.find(key)
        if found is None:
            if claims.full():
                raise StoreUnavailable(
                    f"{len(claims)} instances wait for the index; see why the database "
                    "cannot be written"
                )
            slot = claims.add(key, sha256, _syntax(content), self._owner)
            return Claim(key, slot)
        slot, known = found
        if known.sha256 != sha256 or known.syntax != _syntax(content):
            raise ConflictWith(known.sha256.hex())
        if known.kept:
            return None
        claims.take_in_hand(slot)
        return Claim(key, slot)

    def _indexed(self, sop_instance_uid: str) -> KnownInstance | None:
        try:
            with self._look_ups:
                return self._look_up(sop_instance_uid)
        except StoreUnavailable as error:
            # Receiving goes on; whoever writes the row will find a conflict.
            get_log().warning("index_unreadable", error=str(error))
            return None


def _syntax(content: KnownInstance) -> int:
    return _key(content.transfer_syntax_uid)


def _key(uid: str) -> int:
    return uid_hash(uid) & 0xFFFFFFFFFFFFFFFF
