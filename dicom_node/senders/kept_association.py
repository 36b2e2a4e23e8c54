"""One association to a peer, kept open while there is work for it.

Opening one costs several round trips and, over TLS, a handshake; so it is kept for a
while after the last object. A peer may end it in that time whenever it likes: that is
noticed before the next object, or by its loss, and never counts as a failure of it.
"""

import time
from collections.abc import Callable, Collection

from dicom_node.senders.association import Association
from dicom_node.senders.negotiation import Peer, request_association

__all__ = ["KeptAssociation"]


class KeptAssociation:
    """Opens, keeps and releases the association with one peer.

    Parameters
    ----------
    peer
        Whom to call.
    keep_open_s
        How long it stays without work; 0 releases it at the end of each round.
    clock
        Seconds, monotonic.
    """

    def __init__(
        self,
        peer: Peer,
        keep_open_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.peer = peer
        self._keep_open_s = keep_open_s
        self._clock = clock
        self._association: Association | None = None
        self._proposed: frozenset[tuple[str, str]] = frozenset()
        self._rested_at = 0.0
        self.is_proven = False
        """Whether the peer has answered since the association was last taken up."""

    def take(self, pairs: Collection[tuple[str, str]]) -> Association:
        """Return the association, opened (again) if need be.

        Parameters
        ----------
        pairs
            SOP class and transfer syntax of what is to be sent; one that was not
            proposed yet needs a new association.

        Raises
        ------
        DestinationUnavailable, DestinationRefused
            If it cannot be opened.
        """
        needed = frozenset(pairs)
        association = self._association
        if association is not None and needed <= self._proposed:
            if association.is_alive():
                return association
        else:
            self.close()
        # In the order given: the peer sees the preferred one first.
        association = request_association(self.peer, dict.fromkeys(pairs))
        self._association, self._proposed = association, needed
        self.is_proven = True  # by its acceptance
        return association

    def end_of_round(self) -> None:
        """Release it, or keep it for the next round."""
        self._rested_at = self._clock()
        self.is_proven = False
        if self._keep_open_s <= 0:
            self.close()

    def rest(self) -> None:
        """Release it if it has had no work for long enough."""
        if self._association is None:
            return
        if self._clock() - self._rested_at >= self._keep_open_s:
            self.close()
        elif not self._association.is_alive():  # also answers a peer's release
            self._association = None

    def close(self) -> None:
        """Release it now."""
        association, self._association = self._association, None
        if association is not None:
            association.release()
