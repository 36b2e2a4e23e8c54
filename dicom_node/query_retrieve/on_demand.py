"""Queries for processes that mostly receive: nothing is imported before the first one.

Listeners are forked small and stay so; database, catalogue and pydicom come with the
first query that one of them gets.
"""

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from core.settings import Settings
from dicom_node.data_transfer.exchange import Operation
from dicom_node.data_transfer.protocol import MessageBegan
from dicom_node.data_transfer.services import AcceptedContext, Caller
from dicom_node.guards.admission import parse_allowed

if TYPE_CHECKING:
    from dicom_node.query_retrieve.provider import QueryRetrieveProvider

__all__ = ["QueriesOnDemand"]


class QueriesOnDemand:
    """Stands in for a `QueryRetrieveProvider` until somebody asks.

    Parameters
    ----------
    settings
        The whole tree.

    Raises
    ------
    InvalidSettings
        If `query.allowed_callers` cannot be read: at start-up, not at the first query.
    """

    def __init__(self, settings: Settings) -> None:
        parse_allowed("query.allowed_callers", settings.query.allowed_callers)
        self._settings = settings
        self._lock = threading.Lock()
        self._provider: QueryRetrieveProvider | None = None

    def operation(
        self,
        message: MessageBegan,
        identifier: bytes,
        contexts: Mapping[int, AcceptedContext],
        caller: Caller,
    ) -> Operation:
        """Make the operation of one request; it answers whatever is wrong with it."""
        with self._lock:
            if self._provider is None:
                from dicom_node.query_retrieve.provider import (  # noqa: PLC0415
                    QueryRetrieveProvider,
                )

                self._provider = QueryRetrieveProvider(self._settings)
        return self._provider.operation(message, identifier, contexts, caller)

    def close(self) -> None:
        """Close the index, if it was opened."""
        with self._lock:
            if self._provider is not None:
                self._provider.close()
