"""What settings are made of: types with their limits, units, and the frozen section."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

__all__ = ["AeTitle", "Port", "Priority", "Seconds", "Section", "unit"]


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


AeTitle = Annotated[str, AfterValidator(_ae_title)]
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
