"""Named places where a test may kill, stop or fail this process.

`fault("scp.before_ack")` does nothing, unless the environment asks for it with
`FAULTS=name:action[:nth]` (several separated by commas), where action is `kill` (this
process), `killall` (with every process of its group), `stop`, `raise`, `enospc` or
`sleep=SECONDS` and nth is the visit that counts (default 1). So the promises about
crashes are tested with real processes, at exact places.
"""

import errno
import os
import signal
import threading
import time
from collections import Counter

__all__ = ["NAMES", "fault"]

NAMES = frozenset(
    {
        "scp.after_part_write",
        "scp.after_fsync",
        "scp.after_rename",
        "scp.after_append",
        "scp.after_log_sync",
        "scp.before_ack",
        "log.before_recycle",
        "log.after_recycle",
        "index.before_commit",
        "index.after_commit",
        "outbox.before_publish",
        "outbox.after_publish_before_mark",
        "worker.after_claim",
        "worker.mid_infer",
        "worker.after_result_commit",
        "worker.after_result_file",
        "export.before_send",
        "export.after_ack_before_mark",
        "export.after_mark",
    }
)


def _plan() -> dict[str, list[tuple[str, int]]]:
    plan: dict[str, list[tuple[str, int]]] = {}
    for item in filter(None, os.environ.get("FAULTS", "").split(",")):
        name, action, *rest = item.split(":")
        plan.setdefault(name, []).append((action, int(rest[0]) if rest else 1))
    return plan


_PLAN = _plan()
_VISITS: Counter[str] = Counter()
_LOCK = threading.Lock()


def fault(name: str) -> None:
    """Do what `FAULTS` asks at this place; nothing in production."""
    if not _PLAN:
        return
    with _LOCK:
        _VISITS[name] += 1
        visit = _VISITS[name]
    for action, nth in _PLAN.get(name, ()):
        if visit == nth:
            _act(name, action)


def _act(name: str, action: str) -> None:
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "killall":
        os.killpg(0, signal.SIGKILL)
    elif action == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif action == "enospc":
        raise OSError(errno.ENOSPC, "no space left (asked for by FAULTS)")
    elif action == "raise":
        raise OSError(errno.EIO, "input/output error (asked for by FAULTS)")
    elif action.startswith("sleep="):
        time.sleep(float(action.removeprefix("sleep=")))
    else:
        raise ValueError(f"FAULTS asks for an unknown action {action!r} at {name}")
