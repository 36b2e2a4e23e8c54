"""Unique identifiers: the rule a UID must obey, and UIDs derived from what they name.

A result's UID is a function of what it is the result of, so that any retry, on any
worker, writes the same object again instead of a second one.
"""

import hashlib
import re
import uuid
from functools import lru_cache
from pathlib import Path

__all__ = [
    "IMPLEMENTATION_CLASS_UID",
    "IMPLEMENTATION_VERSION_NAME",
    "derived_uid",
    "installation_uid",
    "is_valid_uid",
    "uid_hash",
]

# PS3.5 9.1: components of digits without leading zeros, 64 characters at most.
_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")
MAXIMUM_UID_LENGTH = 64

_NAMESPACE = uuid.UUID("6f1f0a52-6b1e-5a3c-9d0e-2f4f5ec0d1ea")


# Of the UIDs of an instance all but its own come again and again.
@lru_cache(maxsize=4096)
def is_valid_uid(text: str) -> bool:
    """Tell whether `text` obeys the rule for UIDs.

    Source
    ------
    PS3.5 9.1 and Table 6.2-1 (UI).
    """
    return len(text) <= MAXIMUM_UID_LENGTH and _UID.fullmatch(text) is not None


def derived_uid(*parts: str) -> str:
    """Derive a UID from what it names: equal parts give the equal UID everywhere.

    Parameters
    ----------
    parts
        What identifies the object, most general first. Their number and order matter.

    Source
    ------
    PS3.5 B.2 (2.25 and the UUID as one integer); RFC 4122 4.3 (version 5).
    """
    # The unit separator keeps ("ab", "c") and ("a", "bc") apart.
    name = "\x1f".join(parts)
    return f"2.25.{uuid.uuid5(_NAMESPACE, name).int}"


def uid_hash(uid: str) -> int:
    """Return the 64 bits by which a UID stands in the index, as a signed number.

    Two UIDs may have the same; whoever looks up compares the whole UID.
    """
    digest = hashlib.blake2b(uid.encode("ascii"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


IMPLEMENTATION_CLASS_UID = derived_uid("implementation class", "secondread")
IMPLEMENTATION_VERSION_NAME = "SECONDREAD_0"


def installation_uid(data_dir: Path) -> str:
    """Return this installation's UID as a device, made once and kept (TID 1004)."""
    path = data_dir / "installation-uid"
    fresh = derived_uid("installation", uuid.uuid4().hex)
    try:
        with path.open("x", encoding="ascii") as file:
            file.write(fresh)
    except FileExistsError:
        return path.read_text(encoding="ascii").strip()
    return fresh
