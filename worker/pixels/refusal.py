"""How an image is refused: a sentence that names the instance, never the patient."""

from pydicom.dataset import Dataset

from core.domain import NotAnalysedReason
from core.errors import UnsupportedImage
from core.uids import is_valid_uid

__all__ = ["instance_name", "refused"]


def refused(
    dataset: Dataset | None, reason: NotAnalysedReason, explanation: str
) -> UnsupportedImage:
    """Make the error that refuses an image.

    Parameters
    ----------
    dataset
        The image, for its SOP Instance UID; None where it could not be read so far.
    explanation
        What was found and what was expected; no value of a patient's attribute.
    """
    return UnsupportedImage(reason.value, f"{instance_name(dataset)}: {explanation}")


def instance_name(dataset: Dataset | None) -> str:
    """Name an instance for a message, by its UID if that is a UID."""
    text = "" if dataset is None else str(dataset.get("SOPInstanceUID", ""))
    # Whatever a peer wrote there ends in logs and reports, so only a real UID may pass.
    return f"image {text}" if is_valid_uid(text) else "image without a valid UID"
