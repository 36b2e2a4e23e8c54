"""What a request is answered when it is not served: the one table of HTTP statuses."""

from collections.abc import Mapping

from starlette.responses import JSONResponse, Response

from core.errors import (
    InvalidInstance,
    OperatorError,
    SecondreadError,
    StoreFull,
    StoreUnavailable,
    UnsupportedImage,
)
from dicom_node.query.matching import InvalidQuery

__all__ = ["RETRY_AFTER", "Refused", "answer_for_error", "not_found", "refusal"]

# First match counts. PS3.18 8.5 and Tables 10.4.3-1, 10.5.3-1, 10.6.3-1.
_STATUSES: tuple[tuple[type[SecondreadError], int], ...] = (
    (InvalidQuery, 400),
    (UnsupportedImage, 406),
    (InvalidInstance, 406),
    (StoreFull, 503),
    (StoreUnavailable, 503),
    (OperatorError, 503),
)
_OPERATOR_TEXT = "the service cannot answer now; its log tells why"
_BUG_TEXT = "an unexpected error of this service; its log tells where"
RETRY_AFTER: Mapping[str, str] = {"Retry-After": "30"}


class Refused(Exception):
    """A request that ends with an HTTP status; its text is shown to the client.

    Parameters
    ----------
    status
        HTTP status.
    message
        What is wrong and what to do; never with a value of the query.
    headers
        Further headers of the answer.
    """

    def __init__(
        self, status: int, message: str, *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})


def refusal(error: Refused) -> Response:
    """Return the response to a refused request."""
    return JSONResponse(
        {"error": str(error)}, status_code=error.status, headers=error.headers
    )


def answer_for_error(error: Exception) -> Refused:
    """Translate what ended a request."""
    if isinstance(error, Refused):
        return error
    for kind, status in _STATUSES:
        if isinstance(error, kind):
            hidden = isinstance(error, OperatorError)
            headers = RETRY_AFTER if status == 503 else None
            text = _OPERATOR_TEXT if hidden else str(error)
            return Refused(status, text, headers=headers)
    return Refused(500, _BUG_TEXT)


def not_found(what: str) -> Refused:
    """Return the refusal of something that is not here."""
    return Refused(404, f"{what} is not here")
