"""On what a figure was measured: without it no figure can be compared with another."""

import os
import platform
import shutil
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

__all__ = ["machine_facts", "versions", "wait_for_quiet_disk"]

LIBRARIES = (
    "secondread",
    "pydicom",
    "pynetdicom",
    "numpy",
    "tensorflow-cpu",
    "tensorflow",
    "keras",
    "celery",
    "redis",
    "SQLAlchemy",
    "opencv-python-headless",
    "imagecodecs",
    "pylibjpeg",
    "pylibjpeg-openjpeg",
    "pylibjpeg-rle",
    "pyjpegls",
    "onnxruntime",
    "ai-edge-litert",
    "psutil",
)


def machine_facts(folder: Path) -> dict[str, str]:
    """Return processor, memory, kernel and the file system that `folder` lies on."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory_gib": f"{psutil.virtual_memory().total / 2**30:.0f}",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "folder": _file_system(folder),
        "load_before": f"{os.getloadavg()[0]:.2f}",
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def versions(*programs: str) -> dict[str, str]:
    """Return the versions of our libraries and of peers that are programs.

    Parameters
    ----------
    programs
        Such as `storescp`; what is not installed is left out.
    """
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    for name in programs:
        if shutil.which(name) is not None:
            found[name] = _program_version(name)
    return found


def wait_for_quiet_disk(
    *, quiet_s: float = 1.0, timeout_s: float = 15.0, table: str = "/proc/diskstats"
) -> None:
    """Wait until no disk of this machine has worked for `quiet_s` seconds.

    After files were removed: a disk that is mounted with `discard` still works then.
    """
    os.sync()
    deadline = time.monotonic() + timeout_s
    before = _disk_work(table)
    while time.monotonic() < deadline:
        time.sleep(quiet_s)
        now = _disk_work(table)
        if now == before:
            return
        before = now


def _disk_work(table: str) -> tuple[int, ...]:
    """Sectors written and discarded, by disk."""
    try:
        lines = Path(table).read_text().splitlines()
    except FileNotFoundError:
        return ()
    fields = [line.split() for line in lines]
    return tuple(int(one[at]) for one in fields for at in (9, 16) if len(one) > at)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:
        return platform.processor() or "unknown"
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _file_system(folder: Path) -> str:
    """Kind and options of the mount that holds a folder, without its name."""
    place = folder.resolve()
    mounts = {Path(one.mountpoint): one for one in psutil.disk_partitions(all=True)}
    for parent in (place, *place.parents):
        if parent in mounts:
            return f"{mounts[parent].fstype} ({mounts[parent].opts})"
    return "unknown"


def _program_version(name: str) -> str:
    run = subprocess.run(
        [name, "--version"], capture_output=True, text=True, check=False
    )
    lines = [line.strip(" $") for line in (run.stdout + run.stderr).splitlines()]
    return next((line for line in lines if line), "unknown")
