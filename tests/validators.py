"""The three validators that judge our reports, as functions that tell only errors.

Each finds what the others miss; a report is held against all of them. What they say
without being right is listed here, with the reason, and nowhere else.
"""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

__all__ = ["dciodvfy", "dsrdump", "needs_validators", "pixelmed", "pixelmed_warnings"]

PROGRAMS = ("dciodvfy", "dsrdump", "java", "javac")

# Without these three Java 17 stops the validator's XPath, which then checks nothing and
# still exits 0. The last two only save time: one short run never pays for optimising.
JAVA_OPTIONS = (
    "-Djdk.xml.xpathTotalOpLimit=0",
    "-Djdk.xml.xpathExprOpLimit=0",
    "-Djdk.xml.xpathExprGrpLimit=0",
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
)
PIXELMED_CLASSPATH = Path("/usr/share/java/pixelmed.jar")
PIXELMED_MAIN = Path(__file__).parent / "conformance" / "ValidateReports.java"
COMPLETE = "IOD validation complete"

needs_validators = pytest.mark.skipif(
    any(shutil.which(program) is None for program in PROGRAMS)
    or not PIXELMED_CLASSPATH.exists(),
    reason=f"needs {', '.join(PROGRAMS)} and {PIXELMED_CLASSPATH} "
    "(Debian: dicom3tools, dcmtk, default-jdk-headless, libpixelmed-java)",
)


def dciodvfy(path: Path) -> list[str]:
    """Check modules and attributes; give the lines that say error."""
    run = _run(["dciodvfy", "-new", str(path)])
    lines = (run.stdout + run.stderr).splitlines()
    errors = [line for line in lines if line.startswith("Error")]
    if run.returncode != 0 and not errors:
        errors.append(f"dciodvfy exited with {run.returncode}: {lines[-1:]}")
    return errors


def dsrdump(path: Path) -> list[str]:
    """Parse the tree and its relationships; give the lines that say error."""
    run = _run(["dsrdump", str(path)])
    lines = (run.stdout + run.stderr).splitlines()
    errors = [line for line in lines if line.startswith(("E:", "F:"))]
    if run.returncode != 0 and not errors:
        errors.append(f"dsrdump exited with {run.returncode}: {lines[-1:]}")
    return errors


def pixelmed(paths: Sequence[Path]) -> dict[Path, list[str]]:
    """Check templates and context groups; give each file's lines that say error.

    Parameters
    ----------
    paths
        Many at a time: the templates take most of the time and are compiled once.
    """
    return {path: _pixelmed_errors(said) for path, said in _pixelmed(paths).items()}


def pixelmed_warnings(paths: Sequence[Path]) -> dict[Path, list[str]]:
    """Give each file's lines that say warning."""
    return {
        path: [line for line in said if line.startswith("Warning")]
        for path, said in _pixelmed(paths).items()
    }


def _pixelmed_errors(said: list[str]) -> list[str]:
    errors = [line for line in said if line.startswith("Error")]
    if COMPLETE not in said:
        # It exits 0 even if it validated nothing at all.
        errors.append(f"no line {COMPLETE!r} but {said[:3]}")
    return errors


def _pixelmed(paths: Sequence[Path]) -> dict[Path, list[str]]:
    run = _run(
        [
            "java",
            *JAVA_OPTIONS,
            "-cp",
            str(PIXELMED_CLASSPATH),
            str(PIXELMED_MAIN),
            *map(str, paths),
        ]
    )
    said: dict[Path, list[str]] = {path: [] for path in paths}
    current: list[str] = []
    for line in run.stdout.splitlines():
        if line.startswith("File "):
            current = said[Path(line.removeprefix("File "))]
        else:
            current.append(line)
    return said


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, errors="replace", check=False
    )
