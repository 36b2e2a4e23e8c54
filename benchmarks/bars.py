"""The bars: what each figure must reach (floor) and should reach (goal), in one place.

A measurement says what it found with `Report.bar(KEY, summary)`. Ratios are medians of
paired rounds of one run; storescp and the other peers sync nothing to the disk.
"""

from dataclasses import dataclass

__all__ = ["BARS", "Bar"]


@dataclass(frozen=True)
class Bar:
    """One line of the table of bars."""

    key: str
    benchmark: str
    """Which command measures it."""
    name: str
    floor: float | None
    goal: float | None
    unit: str = ""
    """Of the heights; a ratio has none."""
    least_is_best: bool = False

    def verdict(self, value: float) -> str:
        """Return the highest that a figure reaches: `goal`, `floor`, or `NOT MET`."""
        if self.goal is not None and self._reaches(value, self.goal):
            return "goal"
        if self.floor is None:
            return "goal not met"
        return "floor" if self._reaches(value, self.floor) else "NOT MET"

    def text(self, height: float | None) -> str:
        """Return a height as the table shows it: `0.7`, `≤ 120 MB`."""
        if height is None:
            return "–"
        sign = "≤ " if self.least_is_best else ""
        return f"{sign}{height:g}{self.unit and ' '}{self.unit}"

    def _reaches(self, value: float, height: float) -> bool:
        return value <= height if self.least_is_best else value >= height


_ALL = (
    Bar("log-mr", "receive", "log mode / storescp, MR, 1 association", 0.70, 1.0),
    Bar(
        "log-mr-4",
        "receive",
        "log mode / storescp --fork, MR, 4 associations",
        0.70,
        1.0,
    ),
    Bar("log-file-mr", "receive", "log mode / file mode, MR", 1.5, 1.9),
    Bar("file-mr", "receive", "file mode / storescp, MR", 0.45, 0.55),
    Bar(
        "file-raw-mr",
        "receive",
        "file mode / raw TCP into a new file, synced and renamed, MR",
        0.70,
        0.95,
    ),
    Bar(
        "log-unpacking-mr",
        "receive",
        "log mode with the unpacker busy / storescp, MR",
        0.50,
        0.80,
    ),
    Bar("log-ct", "receive", "log mode / storescp, CT (noisy)", 0.8, 1.2),
    Bar("file-ct", "receive", "file mode / storescp, CT (noisy)", 0.4, 0.6),
    Bar("log-orthanc-mr", "receive", "log mode / Orthanc as shipped, MR", 3, 4),
    Bar(
        "log-pynetdicom-mr",
        "receive",
        "log mode / pynetdicom handler that decodes and saves, MR",
        6,
        9,
    ),
    Bar(
        "cpu-mr",
        "receive",
        "processor seconds, log mode / storescp, MR",
        0.8,
        0.65,
        least_is_best=True,
    ),
    Bar("log-mf", "receive", "log mode / storescp, 500 MB multi-frame", 2, 3.5),
    Bar(
        "rss-mf",
        "receive",
        "peak memory at a 500 MB multi-frame",
        120,
        80,
        "MB",
        least_is_best=True,
    ),
    Bar(
        "nagle",
        "receive",
        "sender with Nagle's algorithm: log mode / storescp as shipped",
        10,
        16,
    ),
    Bar("tls", "receive", "TLS / plain, MR, log mode", 0.5, 0.8),
    Bar("send-ct", "send", "sending 300 CT to storescp / dcmsend", 0.5, 1.0),
    Bar(
        "index-growth",
        "index",
        "cost of a row in batches of 64, 5 million rows / 10 thousand",
        2.5,
        1.5,
        least_is_best=True,
    ),
    Bar("prepare-dx", "prepare", "DX prepare, pydicom + scikit-image / ours", 15, 25),
    Bar("inference-1", "inference", "one image, time of `predict` / ours", 5, None),
    Bar(
        "inference-best",
        "inference",
        "one image, time of the best runtime measured / ours",
        None,
        1.0,
    ),
    Bar(
        "pipeline",
        "pipeline",
        "studies a second / what the slower of decode and inference allows",
        0.85,
        0.95,
    ),
    Bar(
        "turnaround-p50",
        "turnaround",
        "radiograph, last answer to report, less the quiet time, p50",
        1.0,
        0.4,
        "s",
        least_is_best=True,
    ),
    Bar(
        "turnaround-p99",
        "turnaround",
        "the same, p99",
        2.5,
        1.0,
        "s",
        least_is_best=True,
    ),
    Bar(
        "backlog",
        "backlog",
        "10,000 queued studies: cost of a study, last 100 / first 100",
        1.2,
        1.0,
        least_is_best=True,
    ),
    Bar(
        "start-help",
        "startup",
        "`secondread --help`",
        0.3,
        0.3,
        "s",
        least_is_best=True,
    ),
    Bar(
        "start-studies",
        "startup",
        "`secondread studies`",
        0.5,
        0.5,
        "s",
        least_is_best=True,
    ),
    Bar(
        "start-node",
        "startup",
        "node takes associations",
        1.5,
        1.5,
        "s",
        least_is_best=True,
    ),
    Bar(
        "start-worker",
        "startup",
        "worker is ready, cold",
        10,
        10,
        "s",
        least_is_best=True,
    ),
)

BARS = {bar.key: bar for bar in _ALL}
