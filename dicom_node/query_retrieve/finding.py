"""C-FIND: one pending response a match, until there are no more or the peer cancels."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from core.errors import OperatorError, SenderError
from core.log import get_log
from dicom_node.data_transfer.command_set import Request, encode_response
from dicom_node.data_transfer.exchange import Exchange
from dicom_node.query.attributes import (
    CATALOGUED_SERIES,
    CATALOGUED_STUDY,
    COMPUTED,
    Level,
    Tags,
)
from dicom_node.query.json_model import JsonModel
from dicom_node.query.search import Query, Search
from dicom_node.query_retrieve.identifiers import (
    Identifier,
    read_identifier,
    write_match,
)
from dicom_node.query_retrieve.models import Root, Status

__all__ = ["Asked", "Finding", "failure", "query_of"]


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    request: Request
    context_id: int
    transfer_syntax_uid: str
    root: Root
    identifier: bytes


def failure(error: Exception) -> tuple[int, str]:
    """Return the status and Error Comment of a request that ended with `error`."""
    if isinstance(error, SenderError):
        return Status.WRONG_IDENTIFIER, str(error)[:64]
    if isinstance(error, OperatorError):
        return Status.OUT_OF_RESOURCES, "out of resources, try again later"
    get_log().error("query_failed", error=type(error).__name__)
    return Status.UNABLE_TO_PROCESS, "processing failure at the provider"


def query_of(identifier: Identifier) -> Query:
    """Return what is searched for."""
    wanted = identifier.returned | {
        Tags.STUDY_INSTANCE_UID, Tags.SERIES_INSTANCE_UID, Tags.SOP_INSTANCE_UID
    }  # fmt: skip
    return Query(identifier.level, identifier.keys, frozenset(wanted))


class Finding:
    """One C-FIND-RQ.

    Parameters
    ----------
    asked
        The request.
    search
        Over index and files.
    ae_title
        Ours, from where matches can be retrieved.
    """

    def __init__(self, asked: Asked, search: Search, ae_title: str) -> None:
        self._asked = asked
        self._search = search
        self._ae_title = ae_title

    def run(self, exchange: Exchange) -> None:
        """Answer with every match, then with how it ended."""
        try:
            status, comment = self._find(exchange), ""
        except OSError:
            raise  # the connection's own trouble
        except Exception as error:  # noqa: BLE001 - no peer is left without an answer
            status, comment = failure(error)
        self._respond(exchange, status, comment)

    def _find(self, exchange: Exchange) -> int:
        asked = self._asked
        identifier = read_identifier(
            asked.identifier, asked.transfer_syntax_uid, asked.root
        )
        pending = (
            Status.PENDING
            if _supported(identifier)
            else Status.PENDING_KEYS_NOT_SUPPORTED
        )
        matches: Iterable[JsonModel] = self._search.find(query_of(identifier))
        if identifier.of_patients:
            matches = _one_a_patient(matches)
        for model in matches:
            if exchange.cancelled(asked.request.message_id):
                return Status.CANCEL
            written = write_match(
                model,
                identifier,
                retrieve_ae_title=self._ae_title,
                transfer_syntax_uid=asked.transfer_syntax_uid,
            )
            self._respond(exchange, pending, data_set=written)
        return Status.SUCCESS

    def _respond(
        self,
        exchange: Exchange,
        status: int,
        comment: str = "",
        data_set: bytes | None = None,
    ) -> None:
        request = self._asked.request
        exchange.send(
            self._asked.context_id,
            encode_response(
                request,
                status,
                error_comment=comment,
                sop_class_uid=request.sop_class_uid,
                with_data_set=data_set is not None,
            ),
            None if data_set is None else (data_set,),
        )


def _supported(identifier: Identifier) -> bool:
    """Tell whether every attribute that is asked for is kept at its level."""
    known = {*CATALOGUED_STUDY, *COMPUTED}
    if identifier.level is not Level.STUDY:
        known |= {*CATALOGUED_SERIES}
    # Of an instance every attribute of its header is answered.
    return identifier.level is Level.IMAGE or identifier.returned <= known


def _one_a_patient(matches: Iterable[JsonModel]) -> Iterator[JsonModel]:
    seen: set[str] = set()
    for model in matches:
        identity = repr(
            [model.get(f"{tag:08X}") for tag in (Tags.PATIENT_ID, 0x00100021)]
        )
        if identity not in seen:
            seen.add(identity)
            yield model
