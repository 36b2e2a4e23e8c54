"""Answers requests that pynetdicom would drop without a word.

It serves only a request whose mandatory fields are there. Here each other one gets its
status first; then a field is taken out, so that pynetdicom does drop it.
"""

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.dimse_messages import C_ECHO_RQ, C_STORE_RQ
from pynetdicom.dimse_primitives import C_ECHO, C_STORE

from core.uids import is_valid_uid

__all__ = ["answer_unusable_request"]

_MEDIUM = 0
_NO_DATA_SET = 0x0101
# PS3.7 C.5: SOP class not supported, invalid SOP instance, mistyped argument, and
# PS3.4 Table B.2-1: cannot understand.
_SOP_CLASS_NOT_SUPPORTED = 0x0122
_INVALID_INSTANCE = 0x0117
_MISTYPED_ARGUMENT = 0x0212
_CANNOT_UNDERSTAND = 0xC000


def answer_unusable_request(event: evt.Event) -> None:
    """Handle `EVT_DIMSE_RECV`: refuse what cannot be served.

    Source
    ------
    PS3.7 9.3.1 (C-STORE), 9.3.5 (C-ECHO).
    """
    message = event.message
    if isinstance(message, C_STORE_RQ):
        refusal = _refuse_store(event, message.command_set)
        response: C_STORE | C_ECHO = C_STORE()
    elif isinstance(message, C_ECHO_RQ):
        refusal = _refuse_echo(event, message.command_set)
        response = C_ECHO()
    else:
        return
    if refusal is None:
        return
    command = message.command_set
    response.MessageIDBeingRespondedTo = command.MessageID
    status, comment = refusal
    response.Status = status
    if isinstance(response, C_STORE):
        response.ErrorComment = comment  # type: ignore[assignment]
        for keyword in ("AffectedSOPClassUID", "AffectedSOPInstanceUID"):
            uid = _uid(command, keyword)
            if is_valid_uid(uid):
                setattr(response, keyword, uid)
    event.assoc.dimse.send_msg(response, message.context_id or 0)
    for keyword in ("AffectedSOPClassUID", "AffectedSOPInstanceUID"):
        if keyword in command:
            delattr(command, keyword)


def _refuse_store(event: evt.Event, command: Dataset) -> tuple[int, str] | None:
    if "Priority" not in command:
        command.Priority = _MEDIUM
    if not is_valid_uid(_uid(command, "AffectedSOPClassUID")):
        return _INVALID_INSTANCE, "Affected SOP Class UID is missing or invalid"
    if not is_valid_uid(_uid(command, "AffectedSOPInstanceUID")):
        return _INVALID_INSTANCE, "Affected SOP Instance UID is missing or invalid"
    if _uid(command, "AffectedSOPClassUID") != _abstract_syntax(event):
        return _SOP_CLASS_NOT_SUPPORTED, "SOP class of another presentation context"
    if command.CommandDataSetType == _NO_DATA_SET:
        return _CANNOT_UNDERSTAND, "request has no data set"
    return None


def _refuse_echo(event: evt.Event, command: Dataset) -> tuple[int, str] | None:
    uid = _uid(command, "AffectedSOPClassUID")
    if not uid:
        return _MISTYPED_ARGUMENT, ""
    if uid != _abstract_syntax(event):
        return _SOP_CLASS_NOT_SUPPORTED, ""
    return None


def _abstract_syntax(event: evt.Event) -> str:
    for context in event.assoc.accepted_contexts:
        if context.context_id == event.message.context_id:
            return str(context.abstract_syntax)
    return ""


def _uid(command: Dataset, keyword: str) -> str:
    value = command.get(keyword)
    return "" if value is None else str(value)
