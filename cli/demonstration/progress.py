"""What the demonstration says while it runs: one line a stage, as it is reached."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from cli.demonstration.stages import StageReached
from cli.output import duration, plain

__all__ = ["Progress"]

_BAD = frozenset({"failed", "delivery failed", "attempt ended"})


class Progress:
    """Prints stages with their times; what it waits for stands below them.

    Parameters
    ----------
    console
        Where to.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status = console.status("")
        self._began = time.time()
        self._last: dict[str, float] = {}
        self._numbers: dict[str, int] = {}
        self.steps: list[dict[str, object]] = []
        """Every line, for `--json`."""

    @contextmanager
    def shown(self) -> Iterator["Progress"]:
        """Show the waiting line until the end of the block."""
        self._console.print(
            plain(f"  {'stage':<16} {'took':>8}  {'in all':>8}"), style="dim"
        )
        with self._status:
            yield self

    def announce(self, *study_instance_uids: str) -> None:
        """Tell which studies there will be, so that several can be told apart."""
        if len(study_instance_uids) > 1:
            self._numbers = {
                uid: number for number, uid in enumerate(study_instance_uids, start=1)
            }

    def waiting(self, words: str) -> None:
        """Say what is waited for."""
        self._status.update(f"[dim]{words} ...[/]")

    def step(self, stage: str, detail: str, at: float | None = None) -> None:
        """Tell of a step that the demonstration itself has made."""
        self._print("", stage, detail, time.time() if at is None else at)

    def reached(self, stage: StageReached) -> None:
        """Tell of a stage that a study has come to."""
        self._print(stage.study_instance_uid, stage.stage, stage.detail, stage.at)

    def _print(self, uid: str, stage: str, detail: str, at: float) -> None:
        before = self._last.get(uid, self._last.get("", self._began))
        took_s, total_s = max(at - before, 0.0), max(at - self._began, 0.0)
        self._last[uid] = at
        self.steps.append(
            {
                "study_instance_uid": uid or None,
                "stage": stage,
                "detail": detail,
                "at": at,
                "took_s": round(took_s, 3),
                "since_start_s": round(total_s, 3),
            }
        )
        style = "red" if stage in _BAD else "green"
        number = f"study {self._numbers[uid]}: " if uid in self._numbers else ""
        line = f"  {stage:<16} {duration(took_s):>8}  {duration(total_s):>8}   "
        self._console.print(plain(line), style=style, end="")
        self._console.print(plain(f"{number}{detail}"))
