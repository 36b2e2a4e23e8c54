"""The far end of the line: takes orders from standard input until it ends."""

import json
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from core.errors import ModelError, OperatorError
from core.faults import fault
from core.log import configure_logging, get_log
from core.settings import load_settings
from worker.orders import reading_order, report_order
from worker.pipeline import ReadingRoom

__all__ = ["main"]

# Seconds after the parent's own limit at which the kernel ends a request for good.
_ALARM_AFTER_S = 10


def main() -> None:
    """Serve until the parent closes the line; orders of several jobs side by side."""
    answers = _private_output()
    settings = load_settings()
    configure_logging(settings.log, "reading")
    _limit_memory(settings.worker.memory_limit_bytes)
    room = ReadingRoom(settings)
    alarms = _Alarms()
    writing = threading.Lock()

    def serve(line: bytes) -> None:
        message = json.loads(line)
        number = message.pop("number")
        answer = {"number": number, **_serve(room, alarms, message)}
        with writing:
            answers.write(json.dumps(answer).encode() + b"\n")
            answers.flush()

    # One more than jobs, so that loading models never keeps an order waiting.
    with ThreadPoolExecutor(settings.worker.jobs_per_process + 1) as pool:
        for line in sys.stdin.buffer:
            pool.submit(serve, line)
        # The parent is gone; nobody waits for what is being read.
        os._exit(0)


def _private_output() -> BinaryIO:
    """Keep the line for answers alone: whatever a library prints goes to the log."""
    line = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return line


def _limit_memory(limit_bytes: int) -> None:
    if limit_bytes:
        resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))


class _Alarms:
    """One alarm of the kernel for all requests: it waits for the last of their ends.

    It is for the case that the parent is dead or frozen; a parent that lives ends each
    request at its own time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: dict[object, float] = {}

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        key = object()
        with self._lock:
            self._ends[key] = time.monotonic() + seconds + _ALARM_AFTER_S
            self._set()
        try:
            yield
        finally:
            with self._lock:
                del self._ends[key]
                self._set()

    def _set(self) -> None:
        last = max(self._ends.values(), default=0.0)
        left = max(last - time.monotonic(), 0.01) if self._ends else 0.0
        signal.setitimer(signal.ITIMER_REAL, left)


def _serve(
    room: ReadingRoom, alarms: _Alarms, message: dict[str, Any]
) -> dict[str, Any]:
    operation = message.pop("operation")
    try:
        return {"result": _perform(room, alarms, operation, message)}
    except MemoryError:
        return _error("memory", "the reading needed more memory than it may use")
    except ModelError as error:
        return _error(type(error).__name__, str(error), final=True)
    except OperatorError as error:
        return _error(type(error).__name__, str(error))
    except Exception as error:  # noqa: BLE001 - one job's bug must not end the process
        # Its text may quote the data set, so only its class and place are told.
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}"
        get_log().error("reading_failed", error=type(error).__name__, reason=place)
        return _error(type(error).__name__, f"unexpected, at {place}")


def _perform(
    room: ReadingRoom, alarms: _Alarms, operation: str, message: dict[str, Any]
) -> dict[str, Any]:
    if operation == "warm up":
        return {"models": room.warm_up()}
    if operation == "prepare":
        return {"time_limit_s": room.prepare(str(message["bundle_sha256"]))}
    if operation == "read":
        order = reading_order.validate_python(message)
        with alarms.within(order.time_limit_s):
            fault("worker.mid_infer")
            answer: dict[str, Any] = room.read(order)
            return answer
    report = report_order.validate_python(message)
    with alarms.within(report.time_limit_s):
        return {"documents": room.report(report)}


def _error(reason: str, explanation: str, *, final: bool = False) -> dict[str, Any]:
    return {"error": {"reason": reason, "explanation": explanation, "final": final}}


if __name__ == "__main__":
    main()
