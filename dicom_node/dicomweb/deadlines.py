"""Deadlines for what uvicorn would wait for without an end.

These are the head of a request, and a client that does not take its answer. Between the
requests of a connection uvicorn has a deadline of its own, and a request's body has one
where it is read. All of them are `dicomweb.timeout_s`.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["DeadlineProtocol"]


class DeadlineProtocol(H11Protocol):
    """One connection that cannot be held open by doing nothing."""

    _head: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadlines."""
        _cancel(self._head)
        self._head = None
        _cancel(self._taking)
        self._taking = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; those of a request's head do not extend its deadline."""
        if self._head is None and self._between_requests():
            self._await_head()
        super().data_received(data)
        if not self._between_requests():
            _cancel(self._head)
            self._head = None

    def pause_writing(self) -> None:
        """Begin to wait for a client that takes its answer."""
        super().pause_writing()
        if self._taking is None:
            self._taking = self._later(self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: the client took most of what was written."""
        _cancel(self._taking)
        self._taking = None
        super().resume_writing()

    def _between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _await_head(self) -> None:
        self._head = self._later(self._too_slow)

    def _too_slow(self) -> None:
        if self._between_requests():
            self.transport.abort()

    def _later(self, act: Any) -> asyncio.TimerHandle:
        return self.loop.call_later(self.timeout_keep_alive, act)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
