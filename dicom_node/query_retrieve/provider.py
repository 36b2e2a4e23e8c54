"""Who may query, and the operation that serves each request."""

import threading
from collections.abc import Mapping

from core.database.engine import Database, open_database
from core.log import get_log
from core.settings import Settings
from dicom_node.data_transfer.command_set import Command, encode_response
from dicom_node.data_transfer.exchange import Exchange, Operation
from dicom_node.data_transfer.protocol import MessageBegan
from dicom_node.data_transfer.services import AcceptedContext, Caller
from dicom_node.guards.admission import is_allowed, parse_allowed
from dicom_node.instance_store import InstanceStore
from dicom_node.query.search import Search
from dicom_node.query_retrieve.finding import Asked, Finding
from dicom_node.query_retrieve.models import MODELS, Status
from dicom_node.query_retrieve.retrieving import Getting, Moving, Objects

__all__ = ["QueryRetrieveProvider"]


class _Refusal:
    """An operation that is its last response alone."""

    def __init__(self, message: MessageBegan, status: int, comment: str) -> None:
        self._message = message
        self._status = status
        self._comment = comment

    def run(self, exchange: Exchange) -> None:
        """Say no."""
        request = self._message.request
        exchange.send(
            self._message.context_id,
            encode_response(
                request,
                self._status,
                error_comment=self._comment,
                sop_class_uid=request.sop_class_uid,
            ),
        )


class QueryRetrieveProvider:
    """Serves queries and retrievals of one process.

    Parameters
    ----------
    settings
        The whole tree. Index and store are opened at the first request, so that a
        process that never gets one has none of it.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._database: Database | None = None
        self._objects: Objects | None = None
        self._allowed = parse_allowed(
            "query.allowed_callers", settings.query.allowed_callers
        )
        self._destinations = {
            one.ae_title: one for one in settings.retrieve_destinations
        }

    def close(self) -> None:
        """Close the index."""
        with self._lock:
            database, self._database, self._objects = self._database, None, None
        if database is not None:
            database.close()

    def operation(
        self,
        message: MessageBegan,
        identifier: bytes,
        contexts: Mapping[int, AcceptedContext],
        caller: Caller,
    ) -> Operation:
        """Make the operation of one request; it answers whatever is wrong with it."""
        request = message.request
        context = contexts[message.context_id]
        model = MODELS.get(context.abstract_syntax)
        if model is None or model.command is not request.command:
            return _Refusal(message, Status.SOP_CLASS_NOT_SUPPORTED, "")
        if not is_allowed(self._allowed, caller.calling_ae_title, caller.address):
            get_log().warning(
                "query_refused",
                calling_ae_title=caller.calling_ae_title,
                peer_address=caller.address,
                reason="not in query.allowed_callers",
            )
            return _Refusal(
                message, Status.NOT_AUTHORISED, "not allowed to query or retrieve"
            )
        get_log().info(
            "query_request",
            action=request.command.name,
            calling_ae_title=caller.calling_ae_title,
            peer_address=caller.address,
        )
        asked = Asked(
            request,
            message.context_id,
            context.transfer_syntax,
            model.root,
            identifier,
        )
        objects = self._opened()
        if request.command is Command.C_FIND_RQ:
            return Finding(asked, objects.search, self._settings.node.ae_title)
        if request.command is Command.C_GET_RQ:
            return Getting(asked, objects, contexts)
        destination = self._destinations.get(request.move_destination)
        if destination is None:
            return _Refusal(
                message, Status.UNKNOWN_DESTINATION, "move destination is not known"
            )
        return Moving(asked, objects, destination, self._settings.node.ae_title)

    def _opened(self) -> Objects:
        settings = self._settings
        with self._lock:
            if self._database is None or self._objects is None:
                self._database = open_database(settings, migrate=False)
                store = InstanceStore(settings.data_dir, settings.store.durable_writes)
                self._objects = Objects(Search(self._database, store), store)
            return self._objects
