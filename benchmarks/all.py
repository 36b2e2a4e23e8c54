"""Everything that the table of bars needs, in one go: `python -m benchmarks.all`.

Each part is a command of its own that writes FOLDER/PART.json; a part whose file is
there is left out, so that what was cut off goes on where it was. Let nothing else run
meanwhile. Then `python -m benchmarks.report FOLDER/*.json` fills the documentation.
"""

import argparse
import importlib.util
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PARTS", "Part"]


@dataclass(frozen=True)
class Part:
    """One command."""

    name: str
    benchmark: str
    options: tuple[str, ...] = ()


def _receive(*tables: str) -> Part:
    options = ("--rounds", "5", "--tables", *tables)
    return Part(f"receive-{tables[0]}", "receive", options)


# What hardly writes comes first: files that are removed keep a disk busy for a while.
PARTS = (
    Part("startup", "startup", ("--cold", "--rounds", "4")),
    Part("inference", "inference"),
    Part("decode", "decode"),
    Part("prepare", "prepare"),
    _receive("mr"),
    _receive("mr-replay"),
    _receive("mr-4"),
    _receive("ct"),
    _receive("nagle"),
    _receive("tls"),
    _receive("mf"),
    Part("send", "send"),
    Part("pipeline", "pipeline"),
    Part("turnaround", "turnaround"),
    Part("memory", "memory"),
    Part("backlog", "backlog"),
    Part("index", "index"),
)


def main() -> int:
    """Run what is missing; returns 1 if a part failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.all", description=__doc__
    )
    parser.add_argument("folder", type=Path, help="where the JSON files go")
    parser.add_argument(
        "--only", nargs="+", choices=[part.name for part in PARTS], metavar="PART"
    )
    parser.add_argument("--again", action="store_true", help="also what is there")
    parser.add_argument("--list", action="store_true", help="print the commands only")
    given = parser.parse_args()
    chosen = [part for part in PARTS if not given.only or part.name in given.only]
    failed = []
    for part in chosen:
        if not _run(part, given.folder, again=given.again, listed=given.list):
            failed.append(part.name)
    if failed:
        print(f"Failed: {', '.join(failed)}; run the same command again for these.")
    return int(bool(failed))


def _run(part: Part, folder: Path, *, again: bool, listed: bool) -> bool:
    target = folder / f"{part.name}.json"
    words = ["-m", f"benchmarks.{part.benchmark}", *part.options]
    command = [sys.executable, *words, "--json", str(target)]
    if listed:
        print(" ".join(["python", *words, "--json", str(target)]))
        return True
    if importlib.util.find_spec(f"benchmarks.{part.benchmark}") is None:
        print(f"== {part.name}: this copy has no benchmarks.{part.benchmark}")
        return False
    if target.exists() and not again:
        print(f"== {part.name}: {target} is there")
        return True
    folder.mkdir(parents=True, exist_ok=True)
    print(f"== {part.name}", flush=True)
    started = time.monotonic()
    status = subprocess.run(command, check=False).returncode
    print(f"== {part.name}: {time.monotonic() - started:.0f} s", flush=True)
    return status == 0 and target.exists()


if __name__ == "__main__":
    sys.exit(main())
