"""`secondread up`, `node`, `worker`: the installation as a service."""

import signal
import socket
import threading
from collections.abc import Callable
from contextlib import closing
from types import FrameType
from typing import TYPE_CHECKING

import typer

from cli.options import DataDirectory, opened_settings

if TYPE_CHECKING:
    from pathlib import Path

    from cli.supervision.merged_log import MergedLog
    from cli.supervision.supervisor import EmbeddedBroker, Supervisor
    from core.settings import Settings

__all__ = ["node", "supervisor_of", "up", "worker"]


def up(data_dir: DataDirectory = None) -> None:
    """Run everything in the foreground: broker, node, worker and pages.

    What dies is started again; Ctrl-C or SIGTERM stops all of it and leaves no process
    behind.

    Example: `secondread up --data-dir /srv/secondread`
    """
    from cli.supervision.merged_log import MergedLog, component_stream  # noqa: PLC0415
    from core.directory_lock import only_one  # noqa: PLC0415
    from core.log import configure_logging  # noqa: PLC0415

    settings = opened_settings(data_dir)
    with only_one(settings.data_dir, "supervisor"):
        _refuse_taken_ports(settings)
        _create_index(settings)
        log = MergedLog(settings.log.format)
        configure_logging(settings.log, "up", component_stream(log, "up"))
        supervisor = supervisor_of(settings, log, pages=settings.review.enabled)
        _on_stop_signals(supervisor.ask_to_stop)
        _tell_what_runs(settings)
        status = supervisor.run()
    raise typer.Exit(status)


def node(data_dir: DataDirectory = None) -> None:
    """Run the DICOM node alone: receive, settle, announce, deliver.

    Example: `SECONDREAD_QUEUE__BROKER_URL=redis://redis:6379/0 secondread node`
    """
    from core.log import configure_logging, get_log  # noqa: PLC0415
    from dicom_node.receiving import receiving  # noqa: PLC0415

    settings = opened_settings(data_dir)
    configure_logging(settings.log, "node")
    stop = threading.Event()
    _on_stop_signals(stop.set)
    # Listeners are forked first: they need nothing of what follows.
    with receiving(settings) as held:
        from cli.installation import (  # noqa: PLC0415
            looking_through_models,
            render_command,
        )

        with looking_through_models(settings) as models:
            from dicom_node.node import run_node  # noqa: PLC0415
        serving = models.result()
        for path, reason in serving.refused:
            get_log().error("model_refused", path=path, reason=reason)
        run_node(
            settings,
            lambda: serving.identities,
            stop=stop,
            held=held,
            render_command=render_command(),
        )


def worker(data_dir: DataDirectory = None) -> None:
    """Run one worker alone: take jobs from the queue, read studies, write reports.

    As many as wanted may run, on as many hosts as share broker, database and store;
    `celery -A worker worker` starts the same.

    Example: `SECONDREAD_QUEUE__BROKER_URL=redis://redis:6379/0 secondread worker`
    """
    from worker.main import run_worker  # noqa: PLC0415

    raise typer.Exit(run_worker(opened_settings(data_dir)))


def supervisor_of(
    settings: "Settings", log: "MergedLog", *, pages: bool = False
) -> "Supervisor":
    """Put together the supervisor of an installation; it starts nothing yet.

    Parameters
    ----------
    settings, log
        Of the installation; where its lines go.
    pages
        Whether the pages are served as well.

    Raises
    ------
    BrokerUnavailable, StoreUnavailable
        If no embedded broker can be had and none is configured.
    """
    from cli.installation import part_command  # noqa: PLC0415
    from cli.supervision.part import Command  # noqa: PLC0415
    from cli.supervision.supervisor import Supervisor  # noqa: PLC0415

    parts = {"node": "node", "worker": "worker"}
    if pages:
        parts["review"] = "review serve"
    commands = [
        Command(name, *part_command(command, settings.data_dir))
        for name, command in parts.items()
    ]
    return Supervisor(commands, broker=_embedded_broker(settings), line=log.line)


def _embedded_broker(settings: "Settings") -> "EmbeddedBroker | None":
    from cli.supervision import broker  # noqa: PLC0415
    from cli.supervision.supervisor import EmbeddedBroker  # noqa: PLC0415

    if settings.queue.broker_url is not None:
        return None
    server = broker.find_server()
    broker.prepare_directories(settings, server)

    def set_aside() -> "Path":
        aside = broker.set_queue_aside(settings, server)
        broker.prepare_directories(settings, server)
        return aside

    return EmbeddedBroker(
        command=broker.broker_command(settings, server),
        socket=settings.broker_socket,
        set_queue_aside=set_aside,
    )


def _create_index(settings: "Settings") -> None:
    """Bring the schema up to date before node and worker both try to."""
    from core.database.engine import open_database  # noqa: PLC0415

    open_database(settings).close()


def _refuse_taken_ports(settings: "Settings") -> None:
    """Say at once what a part could only say again and again in the log."""
    for name, port in settings.dicom_ports.items():
        _refuse_taken(settings, name, settings.bind_address, port)
    review = settings.review
    if review.enabled:
        _refuse_taken(settings, "review.port", review.bind_address, review.port)


def _refuse_taken(settings: "Settings", name: str, address: str, port: int) -> None:
    from core.errors import OperatorError  # noqa: PLC0415

    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            file = settings.data_dir / "secondread.toml"
            variable = f"SECONDREAD_{name.replace('.', '__').upper()}"
            raise OperatorError(
                f"{name.partition('.')[0]} cannot listen on {address} port {port} "
                f"({error.strerror}); stop the program that does, or choose "
                f"another one: {name} in {file} or {variable}"
            ) from error


def _on_stop_signals(stop: Callable[[], None]) -> None:
    def handle(_number: int, _frame: FrameType | None) -> None:
        stop()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, handle)


def _dicomweb_address(settings: "Settings") -> str:
    dicomweb = settings.dicomweb
    if not dicomweb.enabled:
        return "switched off (dicomweb.enabled)"
    port = dicomweb.port or "PORT (see the log)"
    return f"http://{dicomweb.bind_address}:{port}/dicom-web"


def _pages_of(settings: "Settings") -> str:
    review = settings.review
    if not review.enabled:
        return "not served: review.enabled is off"
    if not review.port:
        return "on any free port (see the log)"
    return f"http{'s' * review.https}://{review.bind_address}:{review.port}"


def _tell_what_runs(settings: "Settings") -> None:
    from cli.installation import active_bundles, catalogue  # noqa: PLC0415
    from cli.output import messages, without_password  # noqa: PLC0415

    found = catalogue(settings)
    bundles = active_bundles(found)
    names = ", ".join(f"{bundle.name} {bundle.version}" for bundle in bundles)
    places = ", ".join(
        f"{entry.name} ({entry.url or f'{entry.ae_title}@{entry.host}:{entry.port}'})"
        for entry in settings.destinations
    )
    port = settings.node.port or "any free port (see the log)"
    callers = ", ".join(settings.node.allowed_callers) or "this machine only"
    console = messages()
    rows = {
        "DICOM": f"{settings.node.ae_title} on {settings.bind_address} port {port}",
        "Callers": callers,
        "DICOMweb": _dicomweb_address(settings),
        "Data": str(settings.data_dir),
        "Broker": without_password(settings.broker_url),
        "Models": names or "none: studies are kept, nothing is read",
        "Reports go to": places
        or "nowhere yet: add [[destinations]] to "
        f"{settings.data_dir / 'secondread.toml'}",
        "Pages": _pages_of(settings),
    }
    console.print("[bold]secondread[/bold]: a second read for every imaging study")
    for label, value in rows.items():
        console.print(f"  {label:<14} {value}", markup=False)
    for refused in found.refused:
        console.print(f"  [bold red]refused model[/]  {refused.reason}")
    options = f"--data-dir {settings.data_dir}"
    target = f"127.0.0.1:{settings.node.port or 'PORT'}"
    console.print(
        f"Send a study:    secondread send FILES --to {target}\n"
        f"Look at studies: secondread studies {options}\n"
        "Stop:            Ctrl-C\n",
        markup=False,
    )
