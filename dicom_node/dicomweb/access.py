"""Who may use DICOMweb: one callable that every request passes."""

from collections.abc import Callable

from starlette.requests import Request

from core.database.access_tokens import Scope, token_of_secret
from core.database.engine import Database
from dicom_node.dicomweb.answers import Refused

__all__ = ["ANYBODY", "Authorise", "Scope", "TokenAuthorisation"]

Authorise = Callable[[Request, Scope], str]
"""From a request and what it wants to do to the client's name; raises `Refused`.

It runs in a thread of its own and may look into the database.
"""

ANYBODY = "DICOMWEB"
"""Name of a client that did not have to say who it is."""

_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="secondread"'}
_THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})


class TokenAuthorisation:
    """Asks for a bearer token, RFC 6750.

    Parameters
    ----------
    database
        Where tokens are known by their hashes.
    required
        Whether a request without a token is refused. Without this only names of this
        machine are served: a page of another host must not reach us through a browser
        that runs here, whatever its name resolves to.
    """

    def __init__(self, database: Database, *, required: bool) -> None:
        self._database = database
        self._required = required

    def __call__(self, request: Request, scope: Scope) -> str:
        """Return the client's name.

        Raises
        ------
        Refused
            401 without a token that is known, 403 with one that may not do this.
        """
        kind, _, secret = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not secret.strip():
            return self._without_token(request)
        with self._database.read() as connection:
            token = token_of_secret(connection, secret.strip())
        if token is None:
            raise Refused(
                401,
                "this bearer token is not known; `secondread token create` makes one",
                headers=_CHALLENGE,
            )
        if scope not in token.scopes:
            raise Refused(403, f"this token does not have the scope {scope.value!r}")
        return token.name

    def _without_token(self, request: Request) -> str:
        if self._required:
            raise Refused(
                401,
                "a bearer token is needed; `secondread token create` makes one",
                headers=_CHALLENGE,
            )
        host = request.headers.get("host", "")
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        if name.lower() not in _THIS_MACHINE:
            raise Refused(
                403,
                "without a token only names of this machine are served "
                "(127.0.0.1, localhost)",
            )
        return ANYBODY
