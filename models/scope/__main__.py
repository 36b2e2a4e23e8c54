"""`python -m models.scope DATA WORK`: fit the guard of scope of a training run.

Writes `WORK/scope.npz` and `WORK/scope.json`, which `python -m models.pack --scope
WORK` puts into a bundle, and prints the share of held-out films that pass.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from models.scope.fit import fit_run
from models.scope.guard import SCOPE_NAME


def main() -> None:
    """Fit and measure from the command line."""
    parser = argparse.ArgumentParser(prog="python -m models.scope")
    parser.add_argument("data", type=Path, help="folder of films with an index.csv")
    parser.add_argument("work", type=Path, help="folder of the finished training run")
    given = parser.parse_args()
    fitted = fit_run(given.data, given.work, report=_write)
    (given.work / SCOPE_NAME).write_bytes(fitted.guard.to_bytes())
    figures = {
        "layer": fitted.layer,
        "picture_side": fitted.picture_side,
        "limit": fitted.limit,
        "folds": [asdict(rate) for rate in fitted.folds],
        "together": asdict(fitted.together),
    }
    text = json.dumps(figures, indent=2) + "\n"
    (given.work / "scope.json").write_text(text, encoding="utf-8")
    _write(text)


def _write(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
