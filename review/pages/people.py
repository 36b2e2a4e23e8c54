"""Accounts and the audit trail, for administrators."""

import secrets
import time

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from core.database import accounts, audit
from core.database.accounts import Role
from core.errors import InvalidAccount
from review.access.gate import session_of
from review.pages.desk import office_of, render

__all__ = ["audit_page", "change_account", "invite", "people_page"]


def people_page(request: Request) -> Response:
    """Show the accounts."""
    return _people(request)


def _people(
    request: Request, *, link: str = "", role: str = "", error: str = ""
) -> Response:
    refused = _admins_only(request)
    if refused is not None:
        return refused
    with office_of(request).database.read() as connection:
        everybody = accounts.accounts(connection)
    values = {
        "accounts": everybody,
        "roles": list(Role),
        "link": link,
        "role": role,
        "error": error,
    }
    return render(request, "people.html", values, status=422 if error else 200)


async def invite(request: Request) -> Response:
    """Make a one-time link; it is shown once and kept as a hash."""
    form = await request.form()
    return await run_in_threadpool(_invite, request, str(form.get("role", "")))


def _invite(request: Request, role: str) -> Response:
    refused = _admins_only(request)
    if refused is not None:
        return refused
    if role not in list(Role):
        return _people(request, error="Choose a role.")
    office = office_of(request)
    token = secrets.token_urlsafe(24)
    with office.database.write() as connection:
        accounts.add_invitation(
            connection,
            token,
            Role(role),
            expires_at=time.time() + office.settings.review.invitation_s,
        )
    office.record(request, "invitation made", detail=role)
    link = str(request.url.replace(path=f"/start/{token}", query=""))
    return _people(request, link=link, role=role)


async def change_account(request: Request) -> Response:
    """Shut an account out, or let it in again."""
    return await run_in_threadpool(_change_account, request)


def _change_account(request: Request) -> Response:
    refused = _admins_only(request)
    if refused is not None:
        return refused
    office = office_of(request)
    login, action = request.path_params["login"], request.path_params["action"]
    try:
        with office.database.write() as connection:
            accounts.set_disabled(connection, login, disabled=action == "disable")
    except InvalidAccount as error:
        return _people(request, error=str(error))
    office.record(request, f"account {action}d", detail=login)
    return RedirectResponse("/accounts", 303)


def audit_page(request: Request) -> Response:
    """Show who did what."""
    refused = _admins_only(request)
    if refused is not None:
        return refused
    with office_of(request).database.read() as connection:
        rows = audit.entries(connection, limit=300)
    return render(request, "audit.html", {"rows": rows})


def _admins_only(request: Request) -> Response | None:
    if session_of(request).account.role is Role.ADMIN:
        return None
    return PlainTextResponse("Only administrators may see this.\n", 403)
