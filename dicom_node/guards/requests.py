"""Answers requests that pynetdicom would drop without a word.

It serves only a request whose mandatory fields are there. Here each other one gets its
status first; then a field is taken out, so that pynetdicom does drop it.
"""

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.dimse_messages import C_ECHO_RQ, C_STORE_RQ
from pynetdicom.dimse_primitives import C_ECHO, C_STORE

from core.uids import is_valid_uid
from dicom_node.statuses import StorageAnswer, StorageOutcome

__all__ = ["answer_unusable_request"]

_MEDIUM = 0
_NO_DATA_SET = 0x0101
# PS3.7 C.5: SOP class not supported, invalid SOP instance, mistyped argument, and
# PS3.4 Table B.2-1: cannot understand.
_SOP_CLASS_NOT_SUPPORTED = 0x0122
_INVALID_INSTANCE = 0x0117
_MISTYPED_ARGUMENT = 0x0212
_CANNOT_UNDERSTAND = 0xC000
_UID_KEYWORDS = ("AffectedSOPClassUID", "AffectedSOPInstanceUID")


def answer_unusable_request(event: evt.Event) -> StorageAnswer | None:
    """Handle `EVT_DIMSE_RECV`: refuse what cannot be served.

    Returns
    -------
    What a C-STORE request was answered, or None if it can be served.

    Source
    ------
    PS3.7 9.3.1 (C-STORE), 9.3.5 (C-ECHO).
    """
    message = event.message
    if not _abstract_syntax(event):
        return None  # no accepted context: pynetdicom aborts
    if isinstance(message, C_STORE_RQ):
        refusal = _refuse_store(event, message.command_set)
        response: C_STORE | C_ECHO = C_STORE()
    elif isinstance(message, C_ECHO_RQ):
        refusal = _refuse_echo(event, message.command_set)
        response = C_ECHO()
    else:
        return None
    if refusal is None:
        return None
    command = message.command_set
    response.MessageIDBeingRespondedTo = command.MessageID
    response.Status = refusal.status
    if isinstance(response, C_STORE):
        response.ErrorComment = refusal.error_comment  # type: ignore[assignment]
        for keyword in _UID_KEYWORDS:
            uid = _uid(command, keyword)
            if is_valid_uid(uid):
                setattr(response, keyword, uid)
    event.assoc.dimse.send_msg(response, message.context_id or 0)
    for keyword in _UID_KEYWORDS:
        if keyword in command:
            delattr(command, keyword)
    return refusal if isinstance(response, C_STORE) else None


def _refuse_store(event: evt.Event, command: Dataset) -> StorageAnswer | None:
    if "Priority" not in command:
        command.Priority = _MEDIUM
    if not is_valid_uid(_uid(command, "AffectedSOPClassUID")):
        return _refused(
            _INVALID_INSTANCE, "Affected SOP Class UID is missing or invalid"
        )
    if not is_valid_uid(_uid(command, "AffectedSOPInstanceUID")):
        return _refused(
            _INVALID_INSTANCE, "Affected SOP Instance UID is missing or invalid"
        )
    if _uid(command, "AffectedSOPClassUID") != _abstract_syntax(event):
        return _refused(
            _SOP_CLASS_NOT_SUPPORTED, "SOP class of another presentation context"
        )
    if command.CommandDataSetType == _NO_DATA_SET:
        return _refused(_CANNOT_UNDERSTAND, "request has no data set")
    return None


def _refuse_echo(event: evt.Event, command: Dataset) -> StorageAnswer | None:
    uid = _uid(command, "AffectedSOPClassUID")
    if not uid:
        return _refused(_MISTYPED_ARGUMENT, "")
    if uid != _abstract_syntax(event):
        return _refused(_SOP_CLASS_NOT_SUPPORTED, "")
    return None


def _refused(status: int, comment: str) -> StorageAnswer:
    return StorageAnswer(status, comment, StorageOutcome.REFUSED)


def _abstract_syntax(event: evt.Event) -> str:
    for context in event.assoc.accepted_contexts:
        if context.context_id == event.message.context_id:
            return str(context.abstract_syntax)
    return ""


def _uid(command: Dataset, keyword: str) -> str:
    value = command.get(keyword)
    return "" if value is None else str(value)
