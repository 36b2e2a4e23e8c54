"""Coming in and going out: log-in, the one-time link, log-out."""

import secrets

from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from core.database import accounts, audit
from core.database.accounts import Account, NewAccount, Role
from core.errors import InvalidAccount
from review.access.gate import FORM_COOKIE, SESSION_COOKIE, address_of
from review.access.passwords import check_new_password, hash_password, is_password
from review.pages.desk import Office, office_of, render

__all__ = ["log_in", "log_out", "login_page", "start", "start_page"]

_REFUSED = "Login or password is wrong."
_WAITS = "Too many attempts. Wait five minutes, then try again."
_NO_LINK = (
    "This link was used, is too old, or never was. An administrator can make another "
    "one; without any account, start the pages again."
)


def login_page(request: Request) -> Response:
    """Show the form."""
    if request.state.session is not None:
        return RedirectResponse("/", 303)
    with office_of(request).database.read() as connection:
        nobody = not accounts.accounts(connection)
    return render(request, "login.html", {"error": "", "login": "", "nobody": nobody})


async def log_in(request: Request) -> Response:
    """Begin a session, or say no; the answer tells nobody which logins exist."""
    form = await request.form()
    login, password = str(form.get("login", ""))[:64], str(form.get("password", ""))
    return await run_in_threadpool(_log_in, request, login, password)


def _log_in(request: Request, login: str, password: str) -> Response:
    office = office_of(request)
    names = (f"login {login}", f"address {address_of(request)}")
    if office.attempts.waits(*names):
        return _refused(request, login, _WAITS, 429)
    with office.database.read() as connection:
        account = accounts.account_by_login(connection, login)
    known = account is not None and not account.disabled
    if not is_password(password, account.password_hash if account and known else None):
        office.attempts.failed(*names)
        # What was typed as a login may be a password: it is not written down.
        office.record(request, "log-in refused", who=account.login if account else "-")
        return _refused(request, login, _REFUSED, 401)
    office.attempts.succeeded(names[0])
    if account is None:
        raise AssertionError("a password fits no account")
    with office.database.write() as connection:
        return _begin(request, connection, account, office)


def _refused(request: Request, login: str, error: str, status: int) -> Response:
    values = {"error": error, "login": login, "nobody": False}
    return render(request, "login.html", values, status=status)


def _begin(
    request: Request, connection: Connection, account: Account, office: Office
) -> Response:
    token = secrets.token_urlsafe(32)
    review = office.settings.review
    accounts.forget_old_sessions(
        connection, idle_s=review.session_idle_s, longest_s=review.session_longest_s
    )
    accounts.add_session(connection, token, account.id, secrets.token_urlsafe(24))
    audit.record(
        connection, who=account.login, address=address_of(request), action="log-in"
    )
    response = RedirectResponse("/", 303)
    response.set_cookie(
        SESSION_COOKIE,
        token,
        httponly=True,
        samesite="strict",
        secure=review.https,
        max_age=int(review.session_longest_s),
    )
    response.delete_cookie(FORM_COOKIE)
    return response


def log_out(request: Request) -> Response:
    """End the session."""
    office = office_of(request)
    with office.database.write() as connection:
        accounts.end_session(connection, request.state.session)
        audit.record(
            connection,
            who=request.state.session.account.login,
            address=address_of(request),
            action="log-out",
        )
    response = RedirectResponse("/login", 303)
    response.delete_cookie(SESSION_COOKIE)
    return response


def start_page(request: Request) -> Response:
    """Show the form behind a one-time link."""
    token = request.path_params["token"]
    with office_of(request).database.read() as connection:
        role = accounts.open_invitation(connection, token)
    if role is None:
        values = {"error": _NO_LINK, "login": "", "nobody": False}
        return render(request, "login.html", values, status=410)
    return _start_form(request, role, {}, "")


def _start_form(
    request: Request, role: Role, given: dict[str, str], error: str, status: int = 200
) -> Response:
    values = {
        "role": role.value,
        "error": error,
        "token": request.path_params["token"],
        **{
            name: given.get(name, "") for name in ("login", "family_name", "given_name")
        },
    }
    return render(request, "start.html", values, status=status)


async def start(request: Request) -> Response:
    """Make the account that a one-time link allows, and log it in."""
    form = await request.form()
    given = {name: str(value).strip()[:64] for name, value in form.items()}
    passwords = (str(form.get("password", "")), str(form.get("again", "")))
    return await run_in_threadpool(_start, request, given, passwords)


def _start(
    request: Request, given: dict[str, str], passwords: tuple[str, str]
) -> Response:
    office = office_of(request)
    token = request.path_params["token"]
    with office.database.read() as connection:
        role = accounts.open_invitation(connection, token)
    if role is None:
        values = {"error": _NO_LINK, "login": "", "nobody": False}
        return render(request, "login.html", values, status=410)
    try:
        new = _new_account(given, passwords, role)
        with office.database.write() as connection:
            if not accounts.use_invitation(connection, token):
                raise InvalidAccount("this link has just been used")
            accounts.add_account(connection, new)
            account = accounts.account_by_login(connection, new.login)
            if account is None:
                raise AssertionError("the account was made in this transaction")
            audit.record(
                connection,
                who=new.login,
                address=address_of(request),
                action="account made",
                detail=role.value,
            )
            return _begin(request, connection, account, office)
    except InvalidAccount as error:
        return _start_form(request, role, given, str(error), 422)


def _new_account(
    given: dict[str, str], passwords: tuple[str, str], role: Role
) -> NewAccount:
    login = given.get("login", "")
    family, first = given.get("family_name", ""), given.get("given_name", "")
    if not login or not login.isascii() or not login.replace(".", "").isalnum():
        raise InvalidAccount("a login has letters, digits and dots, no spaces")
    if not family or any(c in "^=\\" for c in family + first):
        raise InvalidAccount(
            "the family name stands in reports; it is needed, and ^, = and \\ separate "
            "parts of a name there"
        )
    if passwords[0] != passwords[1]:
        raise InvalidAccount("the two passwords differ")
    check_new_password(passwords[0], login)
    return NewAccount(login, family, first, role, hash_password(passwords[0]))
