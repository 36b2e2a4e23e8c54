"""Passwords: argon2id with the library's parameters, checked in constant effort."""

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from core.errors import InvalidAccount

__all__ = ["MINIMUM_LENGTH", "check_new_password", "hash_password", "is_password"]

MINIMUM_LENGTH = 12
"""NIST SP 800-63B asks for length, not for kinds of characters."""
MAXIMUM_LENGTH = 256

_HASHER = PasswordHasher()
# For logins that do not exist: the answer must take as long as for those that do.
_NOBODY = _HASHER.hash("nobody has this password")


def check_new_password(password: str, login: str) -> None:
    """Refuse what is guessed at once.

    Raises
    ------
    InvalidAccount
        If it is too short, too long, or the login.
    """
    if not MINIMUM_LENGTH <= len(password) <= MAXIMUM_LENGTH:
        raise InvalidAccount(
            f"a password has {MINIMUM_LENGTH} to {MAXIMUM_LENGTH} characters; a few "
            "words are easy to remember"
        )
    if login and login.casefold() in password.casefold():
        raise InvalidAccount("the password contains the login; choose another one")
    if len(set(password)) < 5:
        raise InvalidAccount("the password repeats few characters; choose another one")


def hash_password(password: str) -> str:
    """Hash a password with a salt of its own."""
    return _HASHER.hash(password)


def is_password(password: str, password_hash: str | None) -> bool:
    """Tell whether a password fits; None takes as long and is always wrong."""
    try:
        _HASHER.verify(password_hash or _NOBODY, password[:MAXIMUM_LENGTH])
    except (VerifyMismatchError, InvalidHashError):
        return False
    return password_hash is not None
