"""Rounds in which everything that is compared runs once, side by side in time.

The order turns around with each round, so that whoever follows the heavy one does not
always pay for it; the first round warms caches up and does not count; each run gets a
folder of its own, and nothing is deleted while a table is measured: on a disk that
discards, deleting the last run's files takes from the next one's rate.
"""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.harness.summary import Summary, ratios, summarise

__all__ = ["Measured", "Sample", "paired_rounds"]

Sample = Mapping[str, float]
"""What one run gave: figures by name, such as `per_s`, `cpu_s`, `peak_mib`."""


@dataclass
class Measured:
    """What the counted rounds gave, by arm."""

    samples: dict[str, list[Sample]] = field(default_factory=dict)

    def values(self, arm: str, figure: str) -> list[float]:
        """Return one figure of an arm, round by round."""
        return [sample[figure] for sample in self.samples[arm]]

    def summary(self, arm: str, figure: str) -> Summary:
        """Return median, least and greatest of one figure of an arm."""
        return summarise(self.values(arm, figure))

    def ratio(self, arm: str, other: str, figure: str) -> Summary:
        """Return the paired ratios of one figure of `arm` to that of `other`."""
        return summarise(ratios(self.values(arm, figure), self.values(other, figure)))

    def as_json(self) -> dict[str, list[dict[str, float]]]:
        """Return every figure of every round."""
        return {
            arm: [dict(sample) for sample in samples]
            for arm, samples in self.samples.items()
        }


def paired_rounds(
    arms: Mapping[str, Callable[[Path], Sample]],
    *,
    rounds: int,
    folder: Path,
    tell: Callable[[str], None] | None = None,
) -> Measured:
    """Run every arm once a round, after one round that does not count.

    Parameters
    ----------
    arms
        Each takes a fresh, empty folder and returns its figures. It raises where the
        run does not count; that ends the table, because half a table misleads.
    rounds
        How many count.
    folder
        Where the fresh folders are made. The caller removes it after the table.
    tell
        Told of the progress; to standard error by default.
    """
    tell = tell or _tell
    measured = Measured({arm: [] for arm in arms})
    for number in range(rounds + 1):
        for arm in list(arms)[:: 1 if number % 2 else -1]:
            tell(f"round {number} of {rounds}: {arm}")
            # By number: an arm's name is for people, and long paths break sockets.
            fresh = folder / f"{number}-{list(arms).index(arm)}"
            fresh.mkdir(parents=True)
            os.sync()
            sample = arms[arm](fresh)
            if number:
                measured.samples[arm].append(sample)
    return measured


def _tell(text: str) -> None:
    sys.stderr.write(f"\r\x1b[K{text}" if sys.stderr.isatty() else f"{text}\n")
    sys.stderr.flush()
