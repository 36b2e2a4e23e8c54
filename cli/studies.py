"""`secondread studies` and `forget`: what is there, and making it not be there."""

import dataclasses
from typing import Annotated

import typer

from cli.exit_codes import FAILURE
from cli.options import AsJson, DataDirectory, opened_settings

__all__ = ["forget", "studies"]

_STANDINGS = ("receiving", "waiting", "reported", "not analysed", "failed")

Study = Annotated[
    str,
    typer.Argument(
        metavar="STUDY", help="Study Instance UID, or a beginning or end of it."
    ),
]


def _standing(text: str | None) -> str | None:
    if text is None or text.replace("-", " ") in _STANDINGS:
        return text and text.replace("-", " ")
    raise typer.BadParameter(f"one of: {', '.join(_STANDINGS)}")


def studies(
    state: Annotated[
        str | None,
        typer.Option(
            help=f"Only those that are: {', '.join(_STANDINGS)}.", callback=_standing
        ),
    ] = None,
    modality: Annotated[
        str | None, typer.Option(help="Only those with a series of this modality.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    data_dir: DataDirectory = None,
    as_json: AsJson = False,
) -> None:
    """List studies, the last received first, and say where each of them stands.

    Example: `secondread studies --state failed`
    """
    from cli import output  # noqa: PLC0415
    from cli.index import index_exists, opened_index  # noqa: PLC0415
    from core.database.overview import Standing, study_lines  # noqa: PLC0415

    settings = opened_settings(data_dir)
    lines = []
    if index_exists(settings):
        with opened_index(settings) as database, database.read() as connection:
            lines = study_lines(
                connection,
                standing=Standing(state) if state else None,
                modality=modality,
                limit=limit,
            )
    if as_json:
        output.print_json([dataclasses.asdict(line) for line in lines])
        return
    if not lines:
        which = f" {state}" if state else ""
        output.messages().print(f"No{which} study in {settings.data_dir}.")
        return
    shown = output.table(
        "study", "modality", "instances", "state", "why", "from", "age",
        numbers=("instances", "age"),
    )  # fmt: skip
    for line in lines:
        shown.add_row(
            line.study_instance_uid,
            " ".join(line.modalities),
            str(line.instances),
            output.styled(line.standing.value),
            output.plain(line.why),
            output.plain(line.calling_ae_title),
            output.age(line.last_instance_at),
        )
    output.print_table(shown)


def forget(
    study: Study,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask before deleting.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Even while a job of it is running.")
    ] = False,
    data_dir: DataDirectory = None,
    as_json: AsJson = False,
) -> None:
    """Delete a study from this installation: images, jobs, reports, timeline.

    What was sent to other systems stays there.

    Example: `secondread forget 1.2.840.113619.2.55.1 --yes`
    """
    from cli import output  # noqa: PLC0415
    from cli.index import opened_index, the_one_study  # noqa: PLC0415
    from core.log import configure_logging  # noqa: PLC0415
    from core.settings import LogSettings  # noqa: PLC0415
    from dicom_node.forgetting import forget_study  # noqa: PLC0415
    from dicom_node.instance_store import InstanceStore  # noqa: PLC0415

    settings = opened_settings(data_dir)
    configure_logging(LogSettings(level="warning"), "forget")
    with opened_index(settings) as database:
        with database.read() as connection:
            uid = the_one_study(connection, study)
        question = f"Delete study {uid} with all its images and reports?"
        if not yes and not typer.confirm(question, err=True):
            raise typer.Exit(FAILURE)
        store = InstanceStore(settings.data_dir, settings.store.durable_writes)
        gone = forget_study(database, store, uid, force=force)
    if as_json:
        output.print_json({"study_instance_uid": uid, **dataclasses.asdict(gone)})
    else:
        output.messages().print(
            f"Forgotten: study {uid}, {gone.instances} instances, {gone.jobs} jobs, "
            f"{gone.reports} reports."
        )
