"""Structured logs: an event's name and fields from an allow-list.

A field that is not on the list is dropped and counted, so nobody logs a patient by
accident. Text that a peer chose (an AE title) is escaped: a line break must not forge
a line.
"""

import logging
import sys
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
        "rule", "job_id", "delivery_id", "state", "outcome", "worker", "priority",
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
            structlog.contextvars.merge_contextvars,
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
    structlog.contextvars.bind_contextvars(component=component)


def get_log() -> Log:
    """Return the log; safe to call before `configure_logging`."""
    log: Log = structlog.get_logger()
    return log
