"""Threads of the node: each repeats one step, and none of them dies unnoticed."""

import threading
from collections.abc import Callable

from core.errors import OperatorError
from core.log import get_log

__all__ = ["PeriodicThread"]

LONGEST_PAUSE_AFTER_TROUBLE_S = 5.0


class PeriodicThread:
    """Repeats a step until it is stopped.

    What an operator must mend (a full disk, a locked database) is logged, and the step
    is tried again. Any other error is a bug: it is logged and told to `on_crash`, so
    that the process ends and is started anew instead of running on without a part.

    Parameters
    ----------
    name
        Shown in logs.
    step
        Does what is due and returns the seconds until it should be called again.
    on_crash
        Called once, from this thread, with the error that ended it.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], float],
        *,
        on_crash: Callable[[str, BaseException], None],
    ) -> None:
        self.name = name
        self._step = step
        self._on_crash = on_crash
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """Let the next step come now."""
        self._wake.set()

    def stop(self) -> None:
        """Ask it to end after its present step."""
        self._stop.set()
        self._wake.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for its end; False if it has not come to it in time."""
        self._thread.join(max(0.0, timeout_s))
        return not self._thread.is_alive()

    def _run(self) -> None:
        trouble_s = 0.0
        while not self._stop.is_set():
            self._wake.clear()
            try:
                pause_s = self._step()
                trouble_s = 0.0
            except OperatorError as error:
                get_log().warning("step_postponed", name=self.name, error=str(error))
                trouble_s = min(LONGEST_PAUSE_AFTER_TROUBLE_S, max(0.2, 2 * trouble_s))
                pause_s = trouble_s
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told
                get_log().error(
                    "step_crashed",
                    name=self.name,
                    error=f"{type(error).__name__} at {_place(error)}",
                )
                self._on_crash(self.name, error)
                return
            # `stop` may have come before `clear` above and its wake be lost.
            if pause_s > 0 and not self._stop.is_set():
                self._wake.wait(pause_s)


def _place(error: BaseException) -> str:
    """Return file and line of the error; its text might quote a patient."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "unknown place"
    return f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"
