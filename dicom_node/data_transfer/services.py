"""What each request of an association is answered."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from core.uids import is_valid_uid
from dicom_node.data_transfer.command_set import Command, Request, encode_response
from dicom_node.data_transfer.exchange import Operation
from dicom_node.data_transfer.protocol import MessageBegan
from dicom_node.file_meta import FileMeta
from dicom_node.guards.requests import refuse_store, refuse_verification
from dicom_node.receive import InstanceSink, Receiver
from dicom_node.statuses import SUCCESS, StorageAnswer, StorageOutcome

__all__ = ["AcceptedContext", "Caller", "QueryRetrieve", "Response", "Services"]


@dataclass(frozen=True, slots=True)
class AcceptedContext:
    """What was negotiated for one presentation context."""

    abstract_syntax: str
    transfer_syntax: str
    we_may_send: bool = False
    """Whether the peer took the role of an SCP here (PS3.7 D.3.3.4), as for a C-GET."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, and whom."""

    calling_ae_title: str
    called_ae_title: str
    address: str


@dataclass(frozen=True, slots=True)
class Response:
    """A whole command set and the presentation context that it answers in."""

    context_id: int
    command_set: bytes


class QueryRetrieve(Protocol):
    """Makes operations of requests to find, get or move."""

    def operation(
        self,
        message: MessageBegan,
        identifier: bytes,
        contexts: Mapping[int, AcceptedContext],
        caller: Caller,
    ) -> Operation:
        """Make the operation of one request; it answers whatever is wrong with it."""


_QUERIES = frozenset({Command.C_FIND_RQ, Command.C_GET_RQ, Command.C_MOVE_RQ})
# An identifier is some hundred bytes; a list of a thousand UIDs has 64 KiB.
_LONGEST_IDENTIFIER = 1 << 20
_SOP_CLASS_NOT_SUPPORTED = 0x0122
_TOO_LONG = StorageAnswer(0xC000, "identifier is too long", StorageOutcome.REFUSED)
_NO_QUERIES = StorageAnswer(
    _SOP_CLASS_NOT_SUPPORTED, "SOP class of another presentation context",
    StorageOutcome.REFUSED,
)  # fmt: skip


class Services:
    """Serves the messages of one association, one after the other.

    Parameters
    ----------
    contexts
        The accepted presentation contexts by their IDs.
    caller
        For the files that are kept.
    receiver
        Takes the instances in.
    on_answer
        Called with each answer to a C-STORE-RQ and the size of its data set, before the
        peer is told.
    queries
        Serves queries and retrievals; None where there are none.
    """

    def __init__(
        self,
        *,
        contexts: Mapping[int, AcceptedContext],
        caller: Caller,
        receiver: Receiver,
        on_answer: Callable[[StorageAnswer, int], None],
        queries: QueryRetrieve | None = None,
    ) -> None:
        self._contexts = contexts
        self._caller = caller
        self._receiver = receiver
        self._on_answer = on_answer
        self._queries = queries
        self._identifier: bytearray | None = None
        self._message: MessageBegan | None = None
        self._refusal: StorageAnswer | None = None
        self._sink: InstanceSink | None = None
        self._bytes = 0

    def begin(self, message: MessageBegan) -> None:
        """Take a command set; what follows is its data set."""
        request = message.request
        context = self._contexts[message.context_id]
        self._message = message
        self._refusal = None
        self._identifier = None
        self._bytes = 0
        if request.command is Command.C_STORE_RQ:
            self._refusal = refuse_store(request, context.abstract_syntax)
            if self._refusal is None:
                self._sink = self._receiver.begin(self._meta(request, context))
        elif request.command is Command.C_ECHO_RQ:
            self._refusal = refuse_verification(request, context.abstract_syntax)
        elif request.command in _QUERIES:
            if request.sop_class_uid == context.abstract_syntax and self._queries:
                self._identifier = bytearray()
            else:
                self._refusal = _NO_QUERIES

    def data_set(self, fragment: memoryview) -> None:
        """Take the next bytes of the data set; those of a refused request are lost."""
        if self._sink is not None:
            self._bytes += len(fragment)
            self._sink.write(fragment)
        elif self._identifier is not None:
            if len(self._identifier) + len(fragment) > _LONGEST_IDENTIFIER:
                self._identifier, self._refusal = None, _TOO_LONG
            else:
                self._identifier += fragment

    def end(self) -> Response | Operation | None:
        """End the message.

        Returns
        -------
        What is to be sent, or served from now on; None for a C-CANCEL-RQ, which has no
        response of its own.
        """
        message, self._message = self._message, None
        if message is None or message.request.command is Command.C_CANCEL_RQ:
            return None
        if message.request.command is Command.C_ECHO_RQ:
            command_set = self._verified(message.request)
        elif message.request.command in _QUERIES:
            if self._identifier is not None and self._queries is not None:
                return self._queries.operation(
                    message, bytes(self._identifier), self._contexts, self._caller
                )
            command_set = self._refused(message.request)
        else:
            command_set = self._stored(message.request)
        return Response(message.context_id, command_set)

    def abandon(self) -> None:
        """Forget the message that was not ended, if there is one."""
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.abandon()

    def _verified(self, request: Request) -> bytes:
        status = SUCCESS if self._refusal is None else self._refusal.status
        return encode_response(request, status, sop_class_uid=_sound(request)[0])

    def _refused(self, request: Request) -> bytes:
        assert self._refusal is not None
        return encode_response(
            request,
            self._refusal.status,
            error_comment=self._refusal.error_comment,
            sop_class_uid=_sound(request)[0],
        )

    def _stored(self, request: Request) -> bytes:
        sink, self._sink = self._sink, None
        if sink is not None:
            answer = sink.commit()
        else:
            assert self._refusal is not None
            answer = self._refusal
        self._on_answer(answer, self._bytes)
        sop_class_uid, sop_instance_uid = _sound(request)
        return encode_response(
            request,
            answer.status,
            error_comment=answer.error_comment,
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
        )

    def _meta(self, request: Request, context: AcceptedContext) -> FileMeta:
        return FileMeta(
            sop_class_uid=request.sop_class_uid,
            sop_instance_uid=request.sop_instance_uid,
            transfer_syntax_uid=context.transfer_syntax,
            calling_ae_title=self._caller.calling_ae_title,
            called_ae_title=self._caller.called_ae_title,
            peer_address=self._caller.address,
        )


def _sound(request: Request) -> tuple[str, str]:
    """Return the UIDs that may be said back: a broken one is left out."""
    uids = request.sop_class_uid, request.sop_instance_uid
    sop_class_uid, sop_instance_uid = (uid if is_valid_uid(uid) else "" for uid in uids)
    return sop_class_uid, sop_instance_uid
