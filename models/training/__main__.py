"""`python -m models.training DATA WORK [--folds N] [--epochs N] [--seed N]`."""

import argparse
import sys
from pathlib import Path

from models.training.fit import EpochReport
from models.training.plan import TrainingPlan
from models.training.run import train


def main() -> None:
    """Train with the plan of the shipped lung model, one line of text an epoch."""
    default = TrainingPlan()
    parser = argparse.ArgumentParser(prog="python -m models.training")
    parser.add_argument("data", type=Path, help="folder of films with an index.csv")
    parser.add_argument("work", type=Path, help="folder for checkpoints and results")
    parser.add_argument("--folds", type=int, default=default.folds)
    parser.add_argument("--epochs", type=int, default=default.epochs)
    parser.add_argument("--seed", type=int, default=default.seed)
    given = parser.parse_args()
    plan = TrainingPlan(folds=given.folds, epochs=given.epochs, seed=given.seed)
    result = train(given.data, given.work, plan, report=_write)
    sys.stdout.write(f"{result.model}\n{result.out_of_fold}\n")


def _write(report: EpochReport) -> None:
    sys.stdout.write(
        f"{report.part} epoch {report.epoch}/{report.epochs} loss {report.loss:.4f} "
        f"{report.duration_s:.1f} s\n"
    )
    sys.stdout.flush()


if __name__ == "__main__":
    main()
