"""`secondread rules test`: which rules fire for a file, and why."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from cli.options import AsJson, DataDirectory, opened_settings

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Try out the rules of this installation.")


@app.callback()
def _group() -> None:
    """Try out the rules of this installation."""


@app.command("test")
def explain_for(
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False)],
    calling: Annotated[
        str, typer.Option(metavar="AE", help="As if this AE title had sent it.")
    ] = "",
    called: Annotated[
        str, typer.Option(metavar="AE", help="As if it had called this AE title.")
    ] = "",
    data_dir: DataDirectory = None,
    as_json: AsJson = False,
) -> None:
    """Show for one instance which rules fire, condition by condition.

    What is printed may hold values of the file's header.

    Example: `secondread rules test image.dcm --calling CT1`
    """
    from cli import output  # noqa: PLC0415
    from dicom_node.rules import explain  # noqa: PLC0415
    from dicom_node.series_header import read_series_header  # noqa: PLC0415

    settings = opened_settings(data_dir)
    header = read_series_header(
        file,
        calling_ae_title=calling,
        called_ae_title=called or settings.node.ae_title,
    )
    verdicts = [(rule, explain(rule, header)) for rule in settings.rules]
    if as_json:
        output.print_json(
            [
                {
                    **dataclasses.asdict(verdict),
                    "models": rule.models,
                    "destinations": rule.destinations,
                    "priority": rule.priority,
                }
                for rule, verdict in verdicts
            ]
        )
        return
    console = output.standard_output()
    for rule, verdict in verdicts:
        word = "fires" if verdict.fires else "does not fire"
        off = "" if verdict.enabled else " (not enabled)"
        colour = "green" if verdict.fires else "yellow"
        console.print(output.plain(f"Rule {rule.name!r} {word}{off}"), style=colour)
        for item in verdict.judgements:
            mark = "yes" if item.holds else "no "
            found = item.found or "absent"
            console.print(output.plain(f"  {mark}  {item.condition}; found: {found}"))
        if verdict.fires:
            console.print(
                f"  models {', '.join(rule.models)}; destinations "
                f"{', '.join(rule.destinations)}; priority {rule.priority}",
                markup=False,
            )
    if not any(verdict.fires for _, verdict in verdicts):
        console.print("Such a study would be kept and not be read.")
