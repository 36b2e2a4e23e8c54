"""Tokens of machine clients: what each may do, and the hash of its secret.

A secret is 32 random bytes, so its SHA-256 cannot be guessed backwards and needs no
slow hash. It is shown once, when it is made.
"""

import hashlib
import secrets
import time
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import (
    Column,
    Connection,
    Double,
    Integer,
    Row,
    String,
    Table,
    delete,
    insert,
    select,
)
from sqlalchemy.exc import IntegrityError

from core.database.schema import metadata
from core.errors import OperatorError

__all__ = [
    "AccessToken",
    "Scope",
    "access_token",
    "create_token",
    "list_tokens",
    "revoke_token",
    "token_of_secret",
]

_PREFIX = "secondread_"
_BYTES = 32

access_token = Table(
    "access_token",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("scopes", String(64), nullable=False),
    Column("created_at", Double, nullable=False),
)


class Scope(StrEnum):
    """What a client may do."""

    READ = "read"
    """Query and retrieve."""
    STORE = "store"
    """Send instances in."""


@dataclass(frozen=True)
class AccessToken:
    """One token, without its secret."""

    name: str
    scopes: frozenset[Scope]
    created_at: float
    """Seconds since 1970, UTC."""


def create_token(connection: Connection, name: str, scopes: Collection[Scope]) -> str:
    """Make a token.

    Returns
    -------
    Its secret, which is kept nowhere.

    Raises
    ------
    OperatorError
        If the name is taken.
    """
    secret = _PREFIX + secrets.token_urlsafe(_BYTES)
    try:
        with connection.begin_nested():
            connection.execute(
                insert(access_token).values(
                    name=name,
                    sha256=_hash(secret),
                    scopes=" ".join(sorted(scopes)),
                    created_at=time.time(),
                )
            )
    except IntegrityError as error:
        raise OperatorError(
            f"there is a token named {name!r}; revoke it first, or choose another name"
        ) from error
    return secret


def token_of_secret(connection: Connection, secret: str) -> AccessToken | None:
    """Find the token with this secret."""
    row = connection.execute(
        select(access_token).where(access_token.c.sha256 == _hash(secret))
    ).one_or_none()
    return _token(row) if row else None


def list_tokens(connection: Connection) -> list[AccessToken]:
    """List the tokens, oldest first."""
    rows = connection.execute(select(access_token).order_by(access_token.c.id))
    return [_token(row) for row in rows]


def revoke_token(connection: Connection, name: str) -> bool:
    """Forget a token; False if there is none of this name."""
    found = connection.execute(delete(access_token).where(access_token.c.name == name))
    return bool(found.rowcount)


def _token(row: Row[tuple[object, ...]]) -> AccessToken:
    return AccessToken(
        row.name, frozenset(map(Scope, row.scopes.split())), row.created_at
    )


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", errors="replace")).hexdigest()
