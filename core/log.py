"""Structured logs: an event's name and fields from an allow-list.

A field that is not on the list is dropped and counted, so nobody logs a patient by
accident. Text that a peer chose (an AE title) is escaped: a line break must not forge
a line.
"""

import logging
import sys
import warnings
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

from core.settings import LogSettings

__all__ = ["ALLOWED_FIELDS", "Log", "configure_logging", "get_log"]

Log = structlog.stdlib.BoundLogger

ALLOWED_FIELDS = frozenset(
    {
        # what happened, when, where
        "event", "level", "timestamp", "component", "pid", "reason", "error", "action",
        "signal", "exit_status", "name",
        # identities without a person in them
        "study_instance_uid", "series_instance_uid", "sop_instance_uid",
        "sop_class_uid", "transfer_syntax_uid", "calling_ae_title", "called_ae_title",
        "peer_address", "destination", "model", "model_version", "bundle_sha256",
        "rule", "runtime", "job_id", "delivery_id", "state", "outcome", "worker",
        "priority",
        # seconds of each stage of a reading
        "queued_s", "start_s", "fetch_s", "select_s", "decode_s", "prepare_s",
        "infer_s", "report_s",
        # figures
        "bytes", "instances", "associations", "attempt", "attempts", "count",
        "duration_s", "delay_s", "status", "port", "address", "path", "url", "version",
    }
)  # fmt: skip


def _keep_allowed(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    kept = {name: value for name, value in event.items() if name in ALLOWED_FIELDS}
    dropped = len(event) - len(kept)
    if dropped:
        kept["count_of_dropped_fields"] = dropped
    return kept


def _escape(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    return {
        name: value.encode("unicode_escape").decode("ascii")
        if isinstance(value, str) and not value.isprintable()
        else value
        for name, value in event.items()
    }


def configure_logging(
    settings: LogSettings, component: str, stream: TextIO | None = None
) -> None:
    """Set up this process's log once.

    Parameters
    ----------
    settings
        Format and level.
    component
        `node`, `worker`, ...: stands in every line.
    stream
        Where to write; standard error by default.
    """
    target = stream or sys.stderr
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer()
        if settings.format == "json"
        else structlog.dev.ConsoleRenderer(colors=target.isatty(), pad_event_to=28)
    )
    structlog.configure(
        processors=[
            _named(component),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _keep_allowed,
            _escape,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            getattr(logging, settings.level.upper())
        ),
        logger_factory=structlog.WriteLoggerFactory(file=target),
        cache_logger_on_first_use=True,
    )
    _take_over_libraries()


def _named(component: str) -> structlog.types.Processor:
    # Not a context variable: those do not reach the threads of a process.
    def add(
        _logger: object, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        return {"component": component, **event}

    return add


class _LibraryRecords(logging.Handler):
    """Writes what libraries log; the text only of those that never see a data set.

    pydicom, for one, quotes the values it complains about, and these are a patient's.
    """

    _SPEAK_OF_THE_QUEUE_ONLY = ("celery", "kombu", "amqp", "redis", "alembic")

    def emit(self, record: logging.LogRecord) -> None:
        about = {"name": f"{record.name}:{record.lineno}"}
        if record.name.split(".")[0] in self._SPEAK_OF_THE_QUEUE_ONLY:
            about["reason"] = record.getMessage().split("\n")[0]
        write = (
            get_log().error if record.levelno >= logging.ERROR else get_log().warning
        )
        write("library_message", **about)


def _take_over_libraries() -> None:
    root = logging.getLogger()
    root.handlers = [_LibraryRecords(logging.WARNING)]
    root.setLevel(logging.WARNING)
    # Warnings quote values as well, and are for developers: tests make them errors.
    warnings.showwarning = _forget_warning


def _forget_warning(*_arguments: object, **_options: object) -> None:
    return


def get_log() -> Log:
    """Return the log; safe to call before `configure_logging`."""
    log: Log = structlog.get_logger()
    return log
