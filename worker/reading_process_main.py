"""The far end of the line: takes orders from standard input until it ends."""

import json
import os
import queue
import resource
import signal
import sys
import threading
import traceback
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
    """Serve until the parent closes the line."""
    answers = _private_output()
    settings = load_settings()
    configure_logging(settings.log, "reading")
    _limit_memory(settings.worker.memory_limit_bytes)
    orders: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_receive, args=(orders,), daemon=True).start()
    room = ReadingRoom(settings)
    while True:
        answer = _serve(room, json.loads(orders.get()))
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


def _private_output() -> BinaryIO:
    """Keep the line for answers alone: whatever a library prints goes to the log."""
    line = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return line


def _limit_memory(limit_bytes: int) -> None:
    if limit_bytes:
        resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))


def _receive(orders: "queue.Queue[bytes]") -> None:
    for line in sys.stdin.buffer:
        orders.put(line)
    # The parent is gone; nobody waits for what is being read.
    os._exit(0)


def _serve(room: ReadingRoom, message: dict[str, Any]) -> dict[str, Any]:
    operation = message.pop("operation")
    try:
        return {"result": _perform(room, operation, message)}
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
    finally:
        signal.alarm(0)


def _perform(
    room: ReadingRoom, operation: str, message: dict[str, Any]
) -> dict[str, Any]:
    if operation == "warm up":
        return {"models": room.warm_up()}
    if operation == "read":
        order = reading_order.validate_python(message)
        signal.alarm(int(order.time_limit_s) + _ALARM_AFTER_S)
        fault("worker.mid_infer")
        answer: dict[str, Any] = room.read(order)
        return answer
    report = report_order.validate_python(message)
    signal.alarm(int(report.time_limit_s) + _ALARM_AFTER_S)
    return {"documents": room.report(report)}


def _error(reason: str, explanation: str, *, final: bool = False) -> dict[str, Any]:
    return {"error": {"reason": reason, "explanation": explanation, "final": final}}


if __name__ == "__main__":
    main()
