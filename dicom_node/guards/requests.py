"""Requests that are refused by their command alone, whatever their data set says."""

from core.uids import is_valid_uid
from dicom_node.contexts import VERIFICATION
from dicom_node.data_transfer.command_set import Request
from dicom_node.statuses import StorageAnswer, StorageOutcome

__all__ = ["refuse_store", "refuse_verification"]

# PS3.7 C.5: SOP class not supported, invalid SOP instance, mistyped argument, and
# PS3.4 Table B.2-1: cannot understand.
_SOP_CLASS_NOT_SUPPORTED = 0x0122
_INVALID_INSTANCE = 0x0117
_MISTYPED_ARGUMENT = 0x0212
_CANNOT_UNDERSTAND = 0xC000


def refuse_store(request: Request, abstract_syntax: str) -> StorageAnswer | None:
    """Refuse a C-STORE-RQ that cannot be served; None if it can.

    Parameters
    ----------
    request
        Of any content.
    abstract_syntax
        Of its presentation context.

    Source
    ------
    PS3.7 9.3.1.
    """
    if not is_valid_uid(request.sop_class_uid):
        return _refused(
            _INVALID_INSTANCE, "Affected SOP Class UID is missing or invalid"
        )
    if not is_valid_uid(request.sop_instance_uid):
        return _refused(
            _INVALID_INSTANCE, "Affected SOP Instance UID is missing or invalid"
        )
    if request.sop_class_uid != abstract_syntax or abstract_syntax == VERIFICATION:
        return _refused(
            _SOP_CLASS_NOT_SUPPORTED, "SOP class of another presentation context"
        )
    if not request.has_data_set:
        return _refused(_CANNOT_UNDERSTAND, "request has no data set")
    return None


def refuse_verification(request: Request, abstract_syntax: str) -> StorageAnswer | None:
    """Refuse a C-ECHO-RQ that cannot be served; None if it can.

    Source
    ------
    PS3.7 9.3.5.
    """
    if not request.sop_class_uid:
        return _refused(_MISTYPED_ARGUMENT, "")
    if request.sop_class_uid != abstract_syntax or abstract_syntax != VERIFICATION:
        return _refused(_SOP_CLASS_NOT_SUPPORTED, "")
    return None


def _refused(status: int, comment: str) -> StorageAnswer:
    return StorageAnswer(status, comment, StorageOutcome.REFUSED)
