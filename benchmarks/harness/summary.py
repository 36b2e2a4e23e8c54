"""Figures of several rounds as one: the median and how far they lay apart."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

__all__ = ["Summary", "ratios", "summarise"]


@dataclass(frozen=True)
class Summary:
    """Median, least and greatest of some figures."""

    median: float
    min: float
    max: float
    count: int

    def __str__(self) -> str:
        """As tables print it: `0.94 [0.70-1.69]`."""
        if self.count == 1:
            return f"{_short(self.median)} (1 run)"
        return f"{_short(self.median)} [{_short(self.min)}-{_short(self.max)}]"

    def as_json(self) -> dict[str, float]:
        """Return what a JSON file keeps of it."""
        return asdict(self)


def summarise(values: Iterable[float]) -> Summary:
    """Return median, least and greatest.

    Raises
    ------
    ValueError
        If there is no value.
    """
    found = list(values)
    if not found:
        raise ValueError("no figure was measured, so there is none to summarise")
    return Summary(statistics.median(found), min(found), max(found), len(found))


def ratios(values: Sequence[float], others: Sequence[float]) -> list[float]:
    """Return `values` over `others`, round by round.

    The median of these is what a shared machine can still tell: a slow minute meets
    both sides of a pair.

    Raises
    ------
    ValueError
        If the numbers of rounds differ, or a figure to divide by is not positive.
    """
    if len(values) != len(others):
        raise ValueError(f"{len(values)} rounds cannot be paired with {len(others)}")
    if any(other <= 0 for other in others):
        raise ValueError(f"cannot divide by what was measured: {list(others)}")
    return [value / other for value, other in zip(values, others, strict=True)]


def _short(value: float) -> str:
    """Three digits that mean something, never an exponent."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3g}"
