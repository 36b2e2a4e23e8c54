"""Runs a worker until it is told to stop: what `secondread worker` does."""

import os

from core.queue import concurrency
from core.settings import DATA_DIRECTORY_VARIABLE, Settings

__all__ = ["run_worker"]


def run_worker(settings: Settings) -> int:
    """Take jobs from the queue until SIGTERM or SIGINT.

    Parameters
    ----------
    settings
        The same that `celery -A worker worker` would read from its environment.

    Returns
    -------
    The exit status.
    """
    # worker.tasks reads its settings where Celery would: from the environment.
    os.environ[DATA_DIRECTORY_VARIABLE] = str(settings.data_dir)
    from worker.tasks import app  # noqa: PLC0415 - must come after the line above

    worker = app.Worker(
        pool="threads",
        concurrency=concurrency(settings),
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        task_events=False,
        quiet=True,
    )
    worker.start()
    return int(worker.exitcode or 0)
