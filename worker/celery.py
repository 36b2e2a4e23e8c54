"""Where `celery -A worker` looks for the application."""

from worker.tasks import app

__all__ = ["app"]
