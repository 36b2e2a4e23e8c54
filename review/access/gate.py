"""The gate before every page: session, role, forged requests, headers.

Nothing is reached without a session but what `OPEN` names. Every changing request
carries the session's token in its form, and comes from a page of ours.
"""

import secrets
import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp

from core.database import accounts
from core.database.accounts import Role, SessionRow
from core.database.engine import Database
from core.settings import ReviewSettings

__all__ = [
    "FORM_COOKIE",
    "SESSION_COOKIE",
    "Gate",
    "address_of",
    "form_token",
    "may",
    "session_of",
]

SESSION_COOKIE = "secondread_session"
FORM_COOKIE = "secondread_form"
"""Protects the forms before there is a session: the form repeats the cookie."""
OPEN = ("/login", "/start/", "/static/", "/healthz")

_CHANGES = ("POST", "PUT", "PATCH", "DELETE")
_LARGEST_FORM = 64 * 1024
_HEADERS = {
    # No inline script or style, nothing from elsewhere, in no frame of others.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src "
    "'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri "
    "'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}

Next = Callable[[Request], Awaitable[Response]]


class Gate(BaseHTTPMiddleware):
    """Lets through what may pass, with its session in `request.state`.

    Parameters
    ----------
    app
        What is behind it.
    database, settings
        Sessions, and how long they hold.
    """

    def __init__(
        self, app: ASGIApp, *, database: Database, settings: ReviewSettings
    ) -> None:
        super().__init__(app)
        self._database = database
        self._settings = settings

    async def dispatch(self, request: Request, call_next: Next) -> Response:
        """Check one request, and dress its answer."""
        response = await self._checked(request, call_next)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        if not request.url.path.startswith("/static/"):
            response.headers.setdefault("Cache-Control", "no-store")
        return response

    async def _checked(self, request: Request, call_next: Next) -> Response:
        request.state.session = None
        token = request.cookies.get(SESSION_COOKIE)
        if token:
            request.state.session = await run_in_threadpool(self._session, token)
        session: SessionRow | None = request.state.session
        if session is None and not request.url.path.startswith(OPEN):
            return _to_login(request)
        if request.method in _CHANGES:
            refused = await _forged(request, session)
            if refused is not None:
                return refused
        return await call_next(request)

    def _session(self, token: str) -> SessionRow | None:
        with self._database.read() as connection:
            row = accounts.session_of_token(
                connection,
                token,
                idle_s=self._settings.session_idle_s,
                longest_s=self._settings.session_longest_s,
            )
        now = time.time()
        if row is not None and row.seen_at < now - accounts.SESSION_TOUCH_S:
            with self._database.write() as connection:
                accounts.touch_session(connection, row)
        return row


def session_of(request: Request) -> SessionRow:
    """Return the session of a request that has passed the gate."""
    session: SessionRow = request.state.session
    return session


def form_token(request: Request) -> str:
    """Return the token that a form has to repeat."""
    session: SessionRow | None = request.state.session
    if session is not None:
        return session.csrf_token
    known = request.cookies.get(FORM_COOKIE, "")
    if not known:
        known = getattr(request.state, "form_token", "") or secrets.token_urlsafe(24)
        request.state.form_token = known
    return known


def address_of(request: Request) -> str:
    """Return where a request comes from, for the audit trail."""
    return request.client.host if request.client else "-"


def may(session: SessionRow, *roles: Role) -> bool:
    """Tell whether a session has one of these roles; an administrator has all."""
    return session.account.role in (*roles, Role.ADMIN)


def _to_login(request: Request) -> Response:
    if request.method != "GET" or request.headers.get("x-fragment"):
        return PlainTextResponse("Your session has ended; log in again.\n", 401)
    return RedirectResponse("/login", 303)


async def _forged(request: Request, session: SessionRow | None) -> Response | None:
    """Refuse a change that no page of ours asked for."""
    length = request.headers.get("content-length", "")
    if not length.isdecimal() or int(length) > _LARGEST_FORM:
        return PlainTextResponse("The form is too large, or does not say how.\n", 413)
    if not _from_here(request.headers):
        return PlainTextResponse("The request comes from another site.\n", 403)
    # Kept by the request, so that the page behind the gate can read it as well.
    await request.body()
    form = await request.form()
    given = form.get("csrf_token") or request.headers.get("x-csrf-token") or ""
    expected = session.csrf_token if session else request.cookies.get(FORM_COOKIE, "")
    if not expected or not secrets.compare_digest(str(given), expected):
        return PlainTextResponse(
            "The form is too old; go back, load the page again and repeat it.\n", 403
        )
    return None


def _from_here(headers: Headers) -> bool:
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == headers.get("host")
