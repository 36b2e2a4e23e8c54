"""Senders: each association is a process of its own, and every answer is checked."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.instances import Studies
from benchmarks.harness.parts import AE_TITLE, ROOT
from benchmarks.harness.processes import PROMPT, SHIPPED
from benchmarks.receiving.certificate import certificate

__all__ = ["SENDERS", "Send", "Sent", "dcmsend", "replay", "storescu"]

EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"


@dataclass(frozen=True)
class Sent:
    """How one run went."""

    seconds: float
    """From before the first association to after the last answer."""
    waits_ms: tuple[float, ...] = ()
    """Time to each answer, where the sender tells it."""


Send = Callable[[Studies, int, Path], Sent]
"""Send studies to a port; the folder is for logs."""


def dcmsend(environment: Mapping[str, str] = PROMPT) -> Send:
    """Send with DCMTK's dcmsend, one process for each association."""

    def send(studies: Studies, port: int, folder: Path) -> Sent:
        reports = [
            folder / f"sent-{part}.txt" for part, _ in enumerate(studies.folders)
        ]
        commands = [
            ["dcmsend", "-aec", AE_TITLE, "+crf", str(report), "-ma"]
            + ["127.0.0.1", str(port), "+sd", "+r", str(part)]
            for report, part in zip(reports, studies.folders, strict=True)
        ]
        seconds = _together(commands, environment)
        said = "".join(report.read_text(errors="replace") for report in reports)
        _expect(said, r"DIMSE Status  : 0x0000", studies.count, "answered Success")
        _expect(
            said,
            rf"Network Xfer  : {re.escape(EXPLICIT_VR_LITTLE_ENDIAN)} ",
            studies.count,
            "sent in Explicit VR Little Endian",
        )
        return Sent(seconds)

    return send


def storescu(*, tls: bool = False) -> Send:
    """Send with DCMTK's storescu, which can use TLS; it takes any certificate."""

    def send(studies: Studies, port: int, folder: Path) -> Sent:
        logs = [folder / f"sent-{part}.txt" for part, _ in enumerate(studies.folders)]
        made = certificate() if tls else None
        options = ["+tls", str(made.key), str(made.certificate), "-ic"] if made else []
        commands = [
            ["storescu", "-v", "-aec", AE_TITLE, "-xe", *options]
            + ["127.0.0.1", str(port), "+sd", str(part)]
            for part in studies.folders
        ]
        seconds = _together(commands, PROMPT, logs)
        said = "".join(log.read_text(errors="replace") for log in logs)
        _expect(
            said,
            r"Received Store Response \(Success\)",
            studies.count,
            "answered Success",
        )
        return Sent(seconds)

    return send


def replay(protocol: str) -> Send:
    """Send what was encoded beforehand; `protocol` is `dicom` or `raw`."""

    def send(studies: Studies, port: int, _folder: Path) -> Sent:
        processes = [
            subprocess.Popen(
                [sys.executable, "-P", "-m", "benchmarks.receiving.replay"]
                + [protocol, str(port), AE_TITLE, str(part)],
                env={**PROMPT, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for part in studies.folders
        ]
        for process in processes:
            if process.stdout is None or process.stdout.readline() != "ready\n":
                raise RuntimeError("a replay sender did not get ready")
        started = time.perf_counter()
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        answers = [process.communicate()[0] for process in processes]
        seconds = time.perf_counter() - started
        if any(process.returncode for process in processes):
            raise RuntimeError("a replay sender failed")
        found = [json.loads(answer) for answer in answers]
        if any(one["refused"] for one in found):
            raise RuntimeError("not every instance was answered Success")
        waits = tuple(1000 * wait for one in found for wait in one["waits"])
        # One connection alone is timed by itself: its process also takes time to end.
        alone = found[0]["seconds"] if len(found) == 1 else seconds
        return Sent(alone, waits)

    return send


SENDERS: Mapping[str, Send] = {
    "dcmsend": dcmsend(),
    "dcmsend as shipped": dcmsend(SHIPPED),
    "storescu": storescu(),
    "storescu, TLS": storescu(tls=True),
    "replay": replay("dicom"),
    "raw": replay("raw"),
}


def _together(
    commands: Sequence[Sequence[str]],
    environment: Mapping[str, str],
    logs: Sequence[Path] | None = None,
) -> float:
    """Run commands at the same time; returns the seconds until the last has ended.

    Raises
    ------
    RuntimeError
        If one fails.
    """
    outputs = [log.open("wb") for log in logs] if logs else []
    started = time.perf_counter()
    processes = [
        subprocess.Popen(
            list(command),
            env=dict(environment),
            stdout=outputs[number] if outputs else subprocess.DEVNULL,
            stderr=subprocess.STDOUT if outputs else subprocess.DEVNULL,
        )
        for number, command in enumerate(commands)
    ]
    failed = [process.args for process in processes if process.wait()]
    seconds = time.perf_counter() - started
    for output in outputs:
        output.close()
    if failed:
        raise RuntimeError(f"the sender failed: {failed[0]!r}")
    return seconds


def _expect(said: str, pattern: str, count: int, what: str) -> None:
    found = len(re.findall(pattern, said))
    if found != count:
        raise RuntimeError(f"{found} of {count} instances were {what}")
