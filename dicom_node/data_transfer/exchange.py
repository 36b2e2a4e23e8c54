"""What a request of many responses may do on its association: the seam to a session."""

from collections.abc import Iterable
from typing import Protocol

from dicom_node.data_transfer.command_set import Request

__all__ = ["Exchange", "Operation"]


class Exchange(Protocol):
    """One association while a C-FIND, C-GET or C-MOVE is served on it."""

    def send(
        self,
        context_id: int,
        command_set: bytes,
        data_set: Iterable[bytes] | None = None,
    ) -> None:
        """Send a message; its data set is streamed.

        Raises
        ------
        OSError
            If the peer is gone or does not take it.
        """

    def cancelled(self, message_id: int) -> bool:
        """Tell whether the peer cancelled this request; waits for nothing."""

    def response(self, message_id: int) -> Request:
        """Wait for the response to a request of ours.

        Raises
        ------
        OSError
            If there is none within the network timeout.
        """


class Operation(Protocol):
    """A request that is served by many messages."""

    def run(self, exchange: Exchange) -> None:
        """Serve it to its last response."""
