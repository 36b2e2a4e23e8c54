"""`secondread doctor`: is everything in order, and if not, what to do."""

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from cli.exit_codes import FAILURE
from cli.options import AsJson, DataDirectory, opened_settings

if TYPE_CHECKING:
    from cli.health.check import Check
    from core.settings import Settings

__all__ = ["doctor"]


def doctor(data_dir: DataDirectory = None, as_json: AsJson = False) -> None:
    """Check versions, disk, ports, index, broker, models, rules and destinations.

    Each line is OK, WARN or FAIL and says what to do. Exit status 1 if any is FAIL.

    Example: `secondread doctor`
    """
    from cli import output  # noqa: PLC0415
    from cli.health.check import Level  # noqa: PLC0415

    settings = opened_settings(data_dir)
    checks: list[Check] = []
    console = output.standard_output()
    styles = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}
    for check in _checks(settings):
        checks.append(check)
        if as_json:
            continue
        console.print(f"[{styles[check.level]}]{check.level:<4}[/]  ", end="")
        console.print(output.plain(f"{check.name}: {check.finding}"))
        if check.action:
            console.print(output.plain(f"      -> {check.action}"))
    if as_json:
        output.print_json([dataclasses.asdict(check) for check in checks])
    if any(check.level is Level.FAIL for check in checks):
        raise typer.Exit(FAILURE)


def _checks(settings: "Settings") -> Iterator["Check"]:
    from cli.health import installation, machine  # noqa: PLC0415
    from cli.health.dicomweb import check_dicomweb  # noqa: PLC0415

    yield from machine.check_versions()
    yield from machine.check_data_directory(settings)
    yield from machine.check_disk(settings)
    yield from machine.check_port(settings)
    yield from machine.check_tls(settings)
    yield from check_dicomweb(settings)
    yield from installation.check_index(settings)
    yield from installation.check_broker(settings)
    yield from installation.check_models(settings)
    yield from installation.check_rules(settings)
    yield from installation.check_destinations(settings)
