"""The one Celery task: thin, because everything it needs stands in the database."""

import os
import threading

from celery import signals

from core.log import configure_logging
from core.queue import READ_TASK, make_celery
from core.settings import load_settings
from worker.job_runner import JobRunner

__all__ = ["app", "read"]

# Celery imports this module by name, so the settings are read here, once a process.
settings = load_settings()
app = make_celery(settings)


class _Runners:
    """One runner a process, made when first needed: never inherited through a fork."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runner: JobRunner | None = None
        self._pid = 0

    def get(self) -> JobRunner:
        with self._lock:
            if self._runner is None or self._pid != os.getpid():
                self._runner, self._pid = JobRunner(settings), os.getpid()
            return self._runner

    def stop(self) -> None:
        with self._lock:
            if self._runner is not None and self._pid == os.getpid():
                self._runner.stop()


runners = _Runners()


@app.task(name=READ_TASK)  # type: ignore[untyped-decorator]
def read(job_id: int) -> None:
    """Read the job with this id, if it still waits for it."""
    if isinstance(job_id, int):
        runners.get().run(job_id)


@signals.setup_logging.connect  # type: ignore[untyped-decorator]
def _use_our_log(**_arguments: object) -> None:
    # Celery's own set-up would log task arguments and take over the root logger.
    configure_logging(settings.log, "worker")


@signals.worker_ready.connect  # type: ignore[untyped-decorator]
def _warm_up(**_arguments: object) -> None:
    # The first study must not wait for TensorFlow's import.
    if settings.worker.concurrency and app.conf.worker_pool == "threads":
        threading.Thread(target=runners.get().warm_up, daemon=True).start()


@signals.worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _stop_jobs(**_arguments: object) -> None:
    # Celery waits for running tasks; they end within the runner's grace.
    threading.Thread(target=runners.stop, daemon=True).start()
