"""Who may associate now: the reasons for which an A-ASSOCIATE-RQ is rejected."""

import fnmatch
import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from core.errors import InvalidSettings
from core.settings import NodeSettings
from dicom_node.shared_state import Places, SharedLock

__all__ = [
    "Admission",
    "AssociationRequest",
    "Caller",
    "Refusal",
    "is_allowed",
    "parse_allowed",
]

Caller = tuple[str, ipaddress.IPv4Network | ipaddress.IPv6Network | None]
"""A pattern of AE titles and the network it counts for, None for any."""

_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
_LOOPBACK = "127.0.0.0/8", "::1/128"


@dataclass(frozen=True)
class Refusal:
    """Result, source and diagnostic of an A-ASSOCIATE-RJ.

    Source
    ------
    PS3.8 Table 9-21.
    """

    result: int
    source: int
    diagnostic: int
    reason: str


@dataclass(frozen=True)
class AssociationRequest:
    """What an A-ASSOCIATE-RQ says, and from where."""

    application_context: str
    calling_ae_title: str
    called_ae_title: str
    peer_address: str
    context_ids: Sequence[int]


class Place(Protocol):
    """An association that holds a place for as long as it is alive."""

    def is_alive(self) -> bool:
        """Tell whether it still runs."""


_WRONG_CONTEXT = Refusal(1, 1, 2, "application context name not supported")
_NO_CONTEXTS = Refusal(1, 1, 1, "no presentation contexts, or an ID twice")
_WRONG_CALLED = Refusal(1, 1, 7, "called AE title not recognized")
_WRONG_CALLER = Refusal(1, 1, 3, "calling AE title or address not allowed")
_STOPPING = Refusal(2, 3, 1, "the node is stopping")
_LOW_DISK = Refusal(2, 3, 1, "free space is below store.low_water_bytes")
_TOO_MANY = Refusal(2, 3, 2, "node.maximum_associations reached")
_TOO_MANY_OF_ONE = Refusal(2, 3, 2, "node.maximum_associations_per_address reached")


class Admission:
    """Decides on each request for an association.

    Parameters
    ----------
    settings
        Titles, allowed callers and limits.
    enough_space
        Tells whether the disk is above the low-water mark.
    lock, places
        Shared with the other listeners of the node.
    owner
        Which listener this is.
    """

    def __init__(
        self,
        settings: NodeSettings,
        enough_space: Callable[[], bool],
        *,
        lock: SharedLock,
        places: Places,
        owner: int = 0,
    ) -> None:
        self._settings = settings
        self._enough_space = enough_space
        self._allowed = parse_allowed("node.allowed_callers", settings.allowed_callers)
        self._lock = lock
        self._places = places
        self._owner = owner
        self._mine: list[tuple[Place, int]] = []
        self.stopping = False

    def decide(self, request: AssociationRequest, place: Place) -> Refusal | None:
        """Refuse a request, or give it a place and return None."""
        return self._refuse_identity(request) or self._take_place(request, place)

    def open_associations(self) -> int:
        """Return how many places this listener has taken."""
        with self._lock:
            self._forget_ended()
            return len(self._mine)

    def forget_ended(self) -> None:
        """Give the places of ended associations to others; to be called regularly."""
        if self._mine:
            with self._lock:
                self._forget_ended()

    def _refuse_identity(self, request: AssociationRequest) -> Refusal | None:
        called_here = request.called_ae_title.strip() == self._settings.ae_title
        ids = request.context_ids
        checks = (
            (request.application_context != _APPLICATION_CONTEXT, _WRONG_CONTEXT),
            (
                not (called_here or self._settings.accept_any_called_ae_title),
                _WRONG_CALLED,
            ),
            (not self._is_allowed(request), _WRONG_CALLER),
            (not ids or len(set(ids)) != len(ids), _NO_CONTEXTS),
            (self.stopping, _STOPPING),
            (not self._enough_space(), _LOW_DISK),
        )
        return next((refusal for refused, refusal in checks if refused), None)

    def _is_allowed(self, request: AssociationRequest) -> bool:
        return is_allowed(self._allowed, request.calling_ae_title, request.peer_address)

    def _take_place(self, request: AssociationRequest, place: Place) -> Refusal | None:
        most_of_one = self._settings.maximum_associations_per_address
        with self._lock:
            self._forget_ended()
            if self._places.taken() >= self._settings.maximum_associations:
                return _TOO_MANY
            if self._places.taken_by(request.peer_address) >= most_of_one:
                return _TOO_MANY_OF_ONE
            number = self._places.take(request.peer_address, self._owner)
            if number is None:
                return _TOO_MANY
            self._mine.append((place, number))
            return None

    def _forget_ended(self) -> None:
        for place, number in self._mine:
            if not place.is_alive():
                self._places.leave(number)
        self._mine = [entry for entry in self._mine if entry[0].is_alive()]


def parse_allowed(setting: str, entries: Sequence[str]) -> tuple[Caller, ...]:
    """Read a list of who is allowed.

    Parameters
    ----------
    setting
        Its name, for the error.
    entries
        `AE_TITLE@ADDRESS` each; none is any title from this machine.

    Raises
    ------
    InvalidSettings
        If an entry cannot be read.
    """
    if not entries:
        return tuple(("*", ipaddress.ip_network(network)) for network in _LOOPBACK)
    return tuple(_allowed(setting, entry) for entry in entries)


def is_allowed(
    callers: Sequence[Caller], calling_ae_title: str, peer_address: str
) -> bool:
    """Tell whether somebody is on such a list."""
    try:
        # A dual-stack socket shows IPv4 peers as ::ffff:a.b.c.d%zone.
        address = ipaddress.ip_address(peer_address.split("%")[0])
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    title = calling_ae_title.strip()
    return any(
        fnmatch.fnmatchcase(title, pattern) and (network is None or address in network)
        for pattern, network in callers
    )


def _allowed(setting: str, entry: str) -> Caller:
    title, _, network = entry.rpartition("@")
    try:
        parsed = None if network == "*" else ipaddress.ip_network(network, strict=False)
    except ValueError as error:
        raise InvalidSettings(
            f"{setting}: {entry!r} does not end in an address, a network or "
            "`*`; write e.g. `CT1@10.1.2.3` or `*@10.1.0.0/16`"
        ) from error
    if not title:
        raise InvalidSettings(
            f"{setting}: {entry!r} has no AE title; write `*@…` for any"
        )
    return title, parsed
