"""C-GET and C-MOVE: the objects of a request as C-STORE sub-operations.

A C-GET sends them on the association that asked, straight from the files in pieces; a
C-MOVE has our own sender send them to a peer that the settings name. Both count the
sub-operations and look after each whether the peer cancelled.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from itertools import islice
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset

from core.database.catalogue import StoredObject
from core.errors import InvalidInstance, SecondreadError, StoreUnavailable
from core.settings import RetrieveDestinationSettings
from dicom_node.data_transfer.command_set import (
    Command,
    SubOperations,
    encode_request,
    encode_response,
)
from dicom_node.data_transfer.exchange import Exchange
from dicom_node.data_transfer.services import AcceptedContext
from dicom_node.instance_store import InstanceStore
from dicom_node.query.attributes import Level, Tags
from dicom_node.query.json_model import JsonModel
from dicom_node.query.search import Query, Search
from dicom_node.query.stored_files import (
    data_set_position,
    object_path,
    read_range,
)
from dicom_node.query_retrieve.finding import Asked, failure, query_of
from dicom_node.query_retrieve.identifiers import (
    Identifier,
    WrongIdentifier,
    read_identifier,
    write_data_set,
)
from dicom_node.query_retrieve.models import Status
from dicom_node.senders.c_store import FileResult, send_files

__all__ = ["Getting", "Moving", "Objects"]

# The numbers of sub-operations have sixteen bits.
_MOST_OBJECTS = 0xFFFF
_NATIVE = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"})
_UNIQUE_KEYS = {
    Level.STUDY: Tags.STUDY_INSTANCE_UID,
    Level.SERIES: Tags.SERIES_INSTANCE_UID,
    Level.IMAGE: Tags.SOP_INSTANCE_UID,
}


class _TooMany(Exception):
    """More objects than a response can count."""


class _Cancelled(Exception):
    """The peer cancelled."""


@dataclass(frozen=True)
class Objects:
    """Where objects are found and lie."""

    search: Search
    store: InstanceStore

    def of(self, identifier: Identifier) -> list[StoredObject]:
        """Return what an identifier asks for.

        Raises
        ------
        WrongIdentifier
            If it does not name what its level is about.
        """
        required = (
            Tags.PATIENT_ID
            if identifier.of_patients
            else _UNIQUE_KEYS[identifier.level]
        )
        query = query_of(identifier)
        if not query.values(required):
            raise WrongIdentifier(
                f"({required >> 16:04X},{required & 0xFFFF:04X}) must have a value"
            )
        found = list(islice(self._found(query), _MOST_OBJECTS + 1))
        if len(found) > _MOST_OBJECTS:
            raise _TooMany
        return found

    def path(self, found: StoredObject) -> Path:
        """Return where an object's file lies."""
        return object_path(self.store, found)

    def _found(self, query: Query) -> Iterator[StoredObject]:
        if query.level is Level.IMAGE:
            yield from self.search.objects(
                study_instance_uid=_one(query.values(Tags.STUDY_INSTANCE_UID)),
                series_instance_uid=_one(query.values(Tags.SERIES_INSTANCE_UID)),
                sop_instance_uids=query.values(Tags.SOP_INSTANCE_UID),
            )
            return
        for model in self.search.find(query):
            yield from self.search.objects(
                study_instance_uid=_uid(model, Tags.STUDY_INSTANCE_UID),
                series_instance_uid=_uid(model, Tags.SERIES_INSTANCE_UID)
                if query.level is Level.SERIES
                else None,
            )


def _one(values: Sequence[str]) -> str | None:
    return values[0] if len(values) == 1 else None


def _uid(model: JsonModel, tag: int) -> str:
    return str(model[f"{tag:08X}"]["Value"][0])


@dataclass
class _Tally:
    """How the sub-operations went."""

    total: int
    completed: int = 0
    warning: int = 0
    failed: list[str] = field(default_factory=list)

    def progress(self, *, last: bool) -> SubOperations:
        done = self.completed + self.warning + len(self.failed)
        return SubOperations(
            None if last else self.total - done,
            self.completed,
            len(self.failed),
            self.warning,
        )

    def count(self, found: StoredObject, status: int | None) -> None:
        """Count one; None is no answer."""
        if status == Status.SUCCESS:
            self.completed += 1
        elif status is not None and status >> 12 == 0xB:
            self.warning += 1
        else:
            self.failed.append(found.sop_instance_uid)

    def fail_the_rest(self, objects: Iterable[StoredObject]) -> None:
        self.failed += [found.sop_instance_uid for found in objects]

    def status(self) -> int:
        if not self.failed and not self.warning:
            return Status.SUCCESS
        if self.total and len(self.failed) == self.total:
            return Status.ALL_FAILED
        return Status.SOME_FAILED


class _Retrieval:
    """What C-GET and C-MOVE have in common.

    Parameters
    ----------
    asked
        The request.
    objects
        Where they are.
    """

    def __init__(self, asked: Asked, objects: Objects) -> None:
        self._asked = asked
        self._objects = objects

    def run(self, exchange: Exchange) -> None:
        """Serve the request to its last response."""
        tally = _Tally(0)
        comment = ""
        try:
            status = self._retrieve(exchange, tally)
        except OSError:
            raise  # the connection's own trouble
        except _Cancelled:
            status = Status.CANCEL
        except _TooMany:
            status, comment = Status.TOO_MANY_MATCHES, "more than 65535 objects"
        except Exception as error:  # noqa: BLE001 - no peer is left without an answer
            status, comment = failure(error)
        self._respond(exchange, tally, status, comment=comment)

    def _retrieve(self, exchange: Exchange, tally: _Tally) -> int:
        asked = self._asked
        identifier = read_identifier(
            asked.identifier, asked.transfer_syntax_uid, asked.root
        )
        found = self._objects.of(identifier)
        tally.total = len(found)
        self._store(exchange, found, tally)
        return tally.status()

    def _store(
        self, exchange: Exchange, found: Sequence[StoredObject], tally: _Tally
    ) -> None:
        raise NotImplementedError

    def _after_each(self, exchange: Exchange, tally: _Tally) -> None:
        if exchange.cancelled(self._asked.request.message_id):
            raise _Cancelled
        self._respond(exchange, tally, Status.PENDING)

    def _respond(
        self, exchange: Exchange, tally: _Tally, status: int, *, comment: str = ""
    ) -> None:
        request = self._asked.request
        pending = status == Status.PENDING
        # PS3.4 C.4.2.1.6: what failed is named at the end.
        failed = tally.failed if not pending and status != Status.SUCCESS else []
        data_set = None
        if failed:
            dataset = Dataset()
            dataset.FailedSOPInstanceUIDList = failed
            data_set = write_data_set(dataset, self._asked.transfer_syntax_uid)
        progress = tally.progress(last=not (pending or status == Status.CANCEL))
        exchange.send(
            self._asked.context_id,
            encode_response(
                request,
                status,
                error_comment=comment,
                sop_class_uid=request.sop_class_uid,
                with_data_set=data_set is not None,
                progress=progress,
            ),
            None if data_set is None else (data_set,),
        )


class Getting(_Retrieval):
    """One C-GET-RQ.

    Parameters
    ----------
    asked, objects
        As for every retrieval.
    contexts
        Of the association.
    """

    def __init__(
        self,
        asked: Asked,
        objects: Objects,
        contexts: Mapping[int, AcceptedContext],
    ) -> None:
        super().__init__(asked, objects)
        self._contexts = {
            context.abstract_syntax: (context_id, context.transfer_syntax)
            for context_id, context in contexts.items()
            if context.we_may_send
        }

    def _store(
        self, exchange: Exchange, found: Sequence[StoredObject], tally: _Tally
    ) -> None:
        for number, one in enumerate(found, start=1):
            tally.count(one, self._send(exchange, one, number))
            if number < len(found):
                self._after_each(exchange, tally)

    def _send(self, exchange: Exchange, found: StoredObject, number: int) -> int | None:
        """Send one object; return its status, None if it could not be sent."""
        context = self._contexts.get(found.sop_class_uid)
        if context is None:
            return None
        context_id, syntax = context
        try:
            data_set = self._data_set(found, syntax)
        except SecondreadError:
            return None
        # Apart from the request's own number, which the peer chose.
        message_id = (self._asked.request.message_id + number) % 0xFFFF + 1
        exchange.send(
            context_id,
            encode_request(
                Command.C_STORE_RQ,
                message_id,
                sop_class_uid=found.sop_class_uid,
                sop_instance_uid=found.sop_instance_uid,
            ),
            data_set,
        )
        return exchange.response(message_id).status

    def _data_set(self, found: StoredObject, syntax: str) -> Iterable[bytes]:
        path = self._objects.path(found)
        if found.transfer_syntax_uid == syntax:
            try:
                with path.open("rb") as file:
                    position = data_set_position(file)
            except OSError as error:
                raise StoreUnavailable("a file of the store cannot be read") from error
            return read_range(path, position)
        if {found.transfer_syntax_uid, syntax} <= _NATIVE:
            return (_rewritten(path, syntax),)
        raise InvalidInstance(
            "the peer takes no syntax that this object can be sent in"
        )


def _rewritten(path: Path, syntax: str) -> bytes:
    """Write a native data set in another native transfer syntax."""
    try:
        dataset = dcmread(BytesIO(path.read_bytes()))
        return write_data_set(dataset, syntax)
    except InvalidInstance:
        raise
    except Exception as error:
        raise InvalidInstance(
            f"an object cannot be written in another syntax ({type(error).__name__})"
        ) from error


class Moving(_Retrieval):
    """One C-MOVE-RQ to a destination that the settings name.

    Parameters
    ----------
    asked, objects
        As for every retrieval.
    destination
        Where to.
    calling_ae_title
        As whom.
    """

    def __init__(
        self,
        asked: Asked,
        objects: Objects,
        destination: RetrieveDestinationSettings,
        calling_ae_title: str,
    ) -> None:
        super().__init__(asked, objects)
        self._destination = destination
        self._calling = calling_ae_title

    def _store(
        self, exchange: Exchange, found: Sequence[StoredObject], tally: _Tally
    ) -> None:
        by_path = {self._objects.path(one): one for one in found}
        left = dict(by_path)

        def note(result: FileResult) -> None:
            one = left.pop(result.path, None)
            if one is None:
                return
            tally.count(one, Status.SUCCESS if result.ok else None)
            if left:
                self._after_each(exchange, tally)

        send_files(
            list(by_path),
            host=self._destination.host,
            port=self._destination.port,
            called=self._destination.ae_title,
            calling=self._calling,
            progress=note,
        )
        tally.fail_the_rest(left.values())
