"""What settings are made of: types with their limits, units, and the frozen section."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from core.domain import Code

__all__ = [
    "AeTitle",
    "CodeText",
    "Port",
    "Priority",
    "Seconds",
    "Section",
    "code_of",
    "unit",
]


def _ae_title(text: str) -> str:
    # PS3.5 6.2 (AE): 16 characters at most, no backslash, no control characters, and
    # leading and trailing spaces mean nothing.
    stripped = text.strip()
    printable = all(" " <= character <= "~" for character in stripped)
    if not 0 < len(stripped) <= 16 or "\\" in stripped or not printable:
        raise ValueError(
            "an AE title has 1 to 16 printable ASCII characters and no backslash"
        )
    return stripped


def code_of(text: str) -> Code:
    """Read a coded concept from its text, `value^scheme^meaning`.

    Raises
    ------
    ValueError
        If a part is missing or too long (PS3.3 8.1 to 8.3).
    """
    parts = [part.strip() for part in text.split("^")]
    limits = (16, 16, 64)
    if len(parts) != 3 or not all(
        0 < len(part) <= limit for part, limit in zip(parts, limits, strict=True)
    ):
        raise ValueError(
            "a code is value^scheme^meaning with at most 16, 16 and 64 characters"
        )
    return Code(*parts)


def _code_text(text: str) -> str:
    code_of(text)
    return text


AeTitle = Annotated[str, AfterValidator(_ae_title)]
CodeText = Annotated[str, AfterValidator(_code_text)]
Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]


def unit(name: str) -> dict[str, Any]:
    """Name a setting's unit."""
    return {"unit": name}


class Section(BaseModel):
    """One table of `secondread.toml`; an unknown name in it is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Priority(StrEnum):
    """In which order waiting jobs are read; a STAT order may only raise it."""

    STAT = "stat"
    HIGH = "high"
    ROUTINE = "routine"
    LOW = "low"

    @property
    def rank(self) -> int:
        """Number that sorts priorities, 0 first."""
        return list(Priority).index(self)
