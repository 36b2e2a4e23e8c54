"""People who may use the pages: accounts, one-time links, sessions.

Secrets are kept as hashes only: of passwords argon2id, of tokens, which are random and
long, SHA-256.
"""

import hashlib
import time
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from core.database.schema import account, invitation, session
from core.errors import InvalidAccount

__all__ = [
    "Account",
    "NewAccount",
    "Role",
    "SessionRow",
    "account_by_login",
    "accounts",
    "add_account",
    "add_invitation",
    "add_session",
    "end_session",
    "end_sessions_of",
    "forget_old_sessions",
    "keep_filter",
    "open_invitation",
    "session_of_token",
    "set_disabled",
    "set_password",
    "token_sha256",
    "touch_session",
    "use_invitation",
    "void_invitations",
]

SESSION_TOUCH_S = 30.0
"""A session's last use is noted this often, not with each request."""


class Role(StrEnum):
    """What an account may do."""

    READER = "reader"
    """Decide on results."""
    OPERATOR = "operator"
    """Look after the queue."""
    ADMIN = "admin"
    """All of it, and accounts."""


@dataclass(frozen=True)
class NewAccount:
    """An account to be made."""

    login: str
    family_name: str
    given_name: str
    role: Role
    password_hash: str


@dataclass(frozen=True)
class Account(NewAccount):
    """One row of the table `account`."""

    id: int
    disabled: bool
    created_at: float


@dataclass(frozen=True)
class SessionRow:
    """A session and whose it is."""

    token_sha256: str
    account: Account
    csrf_token: str
    created_at: float
    seen_at: float
    worklist_filter: str | None


def token_sha256(token: str) -> str:
    """Return the form in which a token is kept."""
    return hashlib.sha256(token.encode()).hexdigest()


def accounts(connection: Connection) -> list[Account]:
    """Return every account by login."""
    rows = connection.execute(select(account).order_by(account.c.login))
    return [_account(row._mapping) for row in rows]


def account_by_login(connection: Connection, login: str) -> Account | None:
    """Return an account."""
    row = connection.execute(select(account).where(account.c.login == login)).first()
    return _account(row._mapping) if row else None


def add_account(connection: Connection, new: NewAccount) -> None:
    """Make an account.

    Raises
    ------
    InvalidAccount
        If the login is taken.
    """
    try:
        with connection.begin_nested():
            connection.execute(
                insert(account).values(
                    login=new.login,
                    family_name=new.family_name,
                    given_name=new.given_name,
                    role=new.role.value,
                    password_hash=new.password_hash,
                    disabled=False,
                    created_at=time.time(),
                )
            )
    except IntegrityError as error:
        raise InvalidAccount(
            f"there is an account {new.login!r} already; choose another login"
        ) from error


def set_disabled(connection: Connection, login: str, *, disabled: bool) -> None:
    """Shut an account out, or let it in again; its sessions end.

    Raises
    ------
    InvalidAccount
        If nobody could administer the installation any more.
    """
    connection.execute(
        update(account).where(account.c.login == login).values(disabled=disabled)
    )
    left = connection.execute(
        select(func.count())
        .select_from(account)
        .where(account.c.role == Role.ADMIN.value, account.c.disabled.is_(False))
    ).scalar_one()
    if not left:
        raise InvalidAccount(
            f"{login!r} is the last administrator; make another one first"
        )
    end_sessions_of(connection, login)


def set_password(connection: Connection, login: str, password_hash: str) -> None:
    """Give an account another password; its sessions end."""
    connection.execute(
        update(account)
        .where(account.c.login == login)
        .values(password_hash=password_hash)
    )
    end_sessions_of(connection, login)


def add_invitation(
    connection: Connection, token: str, role: Role, *, expires_at: float
) -> None:
    """Keep a one-time link."""
    connection.execute(
        insert(invitation).values(
            token_sha256=token_sha256(token), role=role.value, expires_at=expires_at
        )
    )


def void_invitations(connection: Connection, role: Role) -> None:
    """Make every open link of a role useless."""
    connection.execute(
        delete(invitation).where(
            invitation.c.role == role.value, invitation.c.used_at.is_(None)
        )
    )


def open_invitation(connection: Connection, token: str) -> Role | None:
    """Return what role a link gives; None if it is unknown, used or too old."""
    row = connection.execute(
        select(invitation.c.role).where(
            invitation.c.token_sha256 == token_sha256(token),
            invitation.c.used_at.is_(None),
            invitation.c.expires_at > time.time(),
        )
    ).first()
    return Role(row.role) if row else None


def use_invitation(connection: Connection, token: str) -> bool:
    """Use a link up, in the transaction that makes its account; False if it is."""
    used = connection.execute(
        update(invitation)
        .where(
            invitation.c.token_sha256 == token_sha256(token),
            invitation.c.used_at.is_(None),
            invitation.c.expires_at > time.time(),
        )
        .values(used_at=time.time())
    )
    return used.rowcount == 1


def add_session(
    connection: Connection, token: str, account_id: int, csrf_token: str
) -> None:
    """Begin a session."""
    now = time.time()
    connection.execute(
        insert(session).values(
            token_sha256=token_sha256(token),
            account_id=account_id,
            csrf_token=csrf_token,
            created_at=now,
            seen_at=now,
        )
    )


def session_of_token(
    connection: Connection, token: str, *, idle_s: float, longest_s: float
) -> SessionRow | None:
    """Return a session that still holds, of an account that may come in."""
    now = time.time()
    row = connection.execute(
        select(session, account)
        .join(account, account.c.id == session.c.account_id)
        .where(
            session.c.token_sha256 == token_sha256(token),
            session.c.seen_at > now - idle_s,
            session.c.created_at > now - longest_s,
            account.c.disabled.is_(False),
        )
    ).first()
    if row is None:
        return None
    values = row._mapping
    return SessionRow(
        token_sha256=values[session.c.token_sha256],
        account=Account(
            login=values[account.c.login],
            family_name=values[account.c.family_name],
            given_name=values[account.c.given_name],
            role=Role(values[account.c.role]),
            password_hash=values[account.c.password_hash],
            id=values[account.c.id],
            disabled=values[account.c.disabled],
            created_at=values[account.c.created_at],
        ),
        csrf_token=values[session.c.csrf_token],
        created_at=values[session.c.created_at],
        seen_at=values[session.c.seen_at],
        worklist_filter=values[session.c.worklist_filter],
    )


def touch_session(connection: Connection, row: SessionRow) -> None:
    """Note that a session is used."""
    connection.execute(
        update(session)
        .where(session.c.token_sha256 == row.token_sha256)
        .values(seen_at=time.time())
    )


def keep_filter(connection: Connection, row: SessionRow, text: str) -> None:
    """Keep what a session's worklist is narrowed to."""
    connection.execute(
        update(session)
        .where(session.c.token_sha256 == row.token_sha256)
        .values(worklist_filter=text)
    )


def end_session(connection: Connection, row: SessionRow) -> None:
    """Log out."""
    connection.execute(
        delete(session).where(session.c.token_sha256 == row.token_sha256)
    )


def end_sessions_of(connection: Connection, login: str) -> None:
    """Log an account out everywhere."""
    of_account = select(account.c.id).where(account.c.login == login)
    connection.execute(delete(session).where(session.c.account_id.in_(of_account)))


def forget_old_sessions(
    connection: Connection, *, idle_s: float, longest_s: float
) -> None:
    """Delete sessions that do not hold any more, with what they had searched for."""
    now = time.time()
    connection.execute(
        delete(session).where(
            (session.c.seen_at <= now - idle_s)
            | (session.c.created_at <= now - longest_s)
        )
    )


def _account(mapping: object) -> Account:
    values = dict(mapping)  # type: ignore[call-overload]
    values["role"] = Role(values["role"])
    return Account(**values)
