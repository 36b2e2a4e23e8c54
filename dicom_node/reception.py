"""What everybody who receives on one data directory shares.

Made once, before listeners are forked: they inherit the lock, the memory and the pipes.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

from core.received import KnownInstance
from core.settings import Settings
from dicom_node.arrivals import ArrivalSource, InboxSource, LogSource
from dicom_node.association_log import COUNTED, AssociationLog
from dicom_node.doorbell import Doorbell
from dicom_node.inbox import Inbox
from dicom_node.known_content import KnownContent, OnTheirWay
from dicom_node.log_inbox import LogInbox
from dicom_node.receive import FreeSpace, Opens, Receiver
from dicom_node.segment_log import LogReader, SegmentLog
from dicom_node.shared_state import Counters, Places, SharedLock

__all__ = ["Reception", "listener_count", "make_reception"]

# The log is cut into so many segments, so that each is big enough for a few seconds and
# one is not much to read again after a kill.
_SEGMENTS = 32


def listener_count(settings: Settings) -> int:
    """Return how many processes receive; 0 is the node's own."""
    wanted = settings.node.listeners
    return len(os.sched_getaffinity(0)) if wanted is None else wanted


@dataclass(frozen=True)
class Reception:
    """The shared parts, and what is made of them."""

    settings: Settings
    lock: SharedLock
    known: OnTheirWay
    places: Places
    counters: Counters
    doorbell: Doorbell
    log: SegmentLog
    inbox: Inbox
    free_space: FreeSpace

    @property
    def own(self) -> int:
        """Number of the node's own process, after those of the listeners."""
        return listener_count(self.settings)

    def receiver(
        self, look_up: Callable[[str], KnownInstance | None], owner: int = 0
    ) -> Receiver:
        """Make what takes instances in for one listener.

        Parameters
        ----------
        look_up
            Asks the index by which content a UID is known.
        owner
            Which listener this is.
        """
        inbox: Opens = self.inbox
        if self.settings.store.receive_order == "log":
            inbox = LogInbox(self.log, self.inbox, owner)
        return Receiver(
            inbox=inbox,
            known=KnownContent(self.known, look_up, owner),
            free_space=self.free_space,
            on_kept=self.doorbell.ring,
        )

    def sources(self) -> tuple[ArrivalSource, ...]:
        """Make what the index writer reads."""
        return (
            LogSource(LogReader(self.log, self.free_space.enough)),
            InboxSource(self.inbox),
        )

    def association_log(self, owner: int = 0) -> AssociationLog:
        """Make the log of one listener's associations."""
        return AssociationLog(self.counters, owner)

    def abandon(self, owner: int) -> None:
        """Clear up behind a listener that died."""
        with self.lock:
            self.known.claims.abandon(owner)
            self.places.abandon(owner)
        self.log.abandon(owner)
        # What it had made durable and nobody was told of is found by looking.
        self.doorbell.ring()

    def close(self) -> None:
        """Give descriptors back."""
        self.doorbell.close()
        self.log.files.close()
        self.lock.close()


def make_reception(settings: Settings) -> Reception:
    """Make the shared parts of one data directory.

    Raises
    ------
    StoreUnavailable
        If the data directory cannot be used.
    """
    lock = SharedLock()
    store = settings.store
    in_log = store.receive_order == "log"
    return Reception(
        settings=settings,
        lock=lock,
        known=OnTheirWay(lock, settings.database_url.startswith("sqlite")),
        places=Places(settings.node.maximum_associations),
        counters=Counters((*COUNTED, "listening"), listener_count(settings) + 1),
        doorbell=Doorbell(),
        log=SegmentLog(
            settings.data_dir,
            lock,
            segments=_SEGMENTS if in_log else 0,
            segment_bytes=store.log_bytes // _SEGMENTS,
            durable=store.durable_writes,
        ),
        inbox=Inbox(settings.data_dir, durable=store.durable_writes),
        free_space=FreeSpace(settings.data_dir, store.low_water_bytes),
    )
