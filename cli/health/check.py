"""A check's answer: how it stands, what was found, what to do."""

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Check", "Level", "fail", "ok", "warn"]


class Level(StrEnum):
    """How grave it is."""

    OK = "OK"
    WARN = "WARN"
    """It works now and will not for ever, or not for every study."""
    FAIL = "FAIL"


@dataclass(frozen=True)
class Check:
    """One line of the doctor."""

    name: str
    level: Level
    finding: str
    action: str = ""
    """What to do; empty when nothing is."""


def ok(name: str, finding: str) -> Check:
    """Tell that nothing is to be done."""
    return Check(name, Level.OK, finding)


def warn(name: str, finding: str, action: str) -> Check:
    """Tell what will become a fault."""
    return Check(name, Level.WARN, finding, action)


def fail(name: str, finding: str, action: str) -> Check:
    """Tell what is a fault now."""
    return Check(name, Level.FAIL, finding, action)
