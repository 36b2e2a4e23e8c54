"""`secondread jobs`, `retry`, `dismiss`: readings and deliveries to look after."""

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import AsJson, DataDirectory, opened_settings

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["dismiss", "jobs", "retry"]


def jobs(
    state: Annotated[
        str | None,
        typer.Option(
            help="Only those that are: queued, running, inferred, reported, failed, "
            "dismissed."
        ),
    ] = None,
    study: Annotated[
        str | None, typer.Option(help="Only those of this study (UID or part of it).")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    data_dir: DataDirectory = None,
    as_json: AsJson = False,
) -> None:
    """List jobs, the newest first: which model reads which study, and how far it is.

    Example: `secondread jobs --state failed`
    """
    from cli import output  # noqa: PLC0415
    from cli.index import opened_index, the_one_study  # noqa: PLC0415
    from core.database.overview import job_lines  # noqa: PLC0415
    from core.lifecycle import JobState  # noqa: PLC0415

    if state is not None and state not in list(JobState):
        raise typer.BadParameter(f"--state is one of: {', '.join(JobState)}")
    settings = opened_settings(data_dir)
    with opened_index(settings) as database, database.read() as connection:
        lines = job_lines(
            connection,
            state=JobState(state) if state else None,
            study_instance_uid=the_one_study(connection, study) if study else None,
            limit=limit,
        )
    if as_json:
        output.print_json([dataclasses.asdict(line) for line in lines])
        return
    if not lines:
        output.messages().print("No job." if state is None else f"No {state} job.")
        return
    shown = output.table(
        "job", "study", "model", "state", "outcome", "priority", "attempts", "reason",
        "age", numbers=("job", "attempts", "age"),
    )  # fmt: skip
    for line in lines:
        shown.add_row(
            str(line.id),
            line.study_instance_uid,
            f"{line.model} {line.model_version}",
            output.styled(line.state.value),
            line.outcome or "",
            line.priority.value,
            str(line.attempts),
            output.plain(line.reason or ""),
            output.age(line.created_at),
        )
    output.print_table(shown)


def retry(
    job: Annotated[
        int | None, typer.Argument(help="Number of a failed or dismissed job.")
    ] = None,
    failed: Annotated[
        bool,
        typer.Option("--failed", help="Every failed job and every failed delivery."),
    ] = False,
    delivery: Annotated[
        int | None,
        typer.Option(help="Number of a delivery that failed or was given up."),
    ] = None,
    data_dir: DataDirectory = None,
    as_json: AsJson = False,
) -> None:
    """Try again what failed, with all its attempts: a job, a delivery, or all of them.

    Example: `secondread retry 17`, `secondread retry --delivery 4`,
    `secondread retry --failed`
    """
    from cli import output  # noqa: PLC0415
    from cli.index import opened_index  # noqa: PLC0415
    from core.database import deliveries  # noqa: PLC0415
    from core.database import jobs as job_rows  # noqa: PLC0415

    if [job is not None, failed, delivery is not None].count(True) != 1:
        raise typer.BadParameter("give a job's number, --delivery NUMBER, or --failed")
    with (
        opened_index(opened_settings(data_dir)) as database,
        database.write() as connection,
    ):
        retried = (
            _everything_failed(connection)
            if failed
            else {
                "jobs": [] if job is None else [job],
                "deliveries": [] if delivery is None else [delivery],
            }
        )
        for number in retried["jobs"]:
            job_rows.retry(connection, number)
        for number in retried["deliveries"]:
            deliveries.retry(connection, number)
    if as_json:
        output.print_json(retried)
    else:
        output.messages().print(
            f"Queued again: {_counted(retried['jobs'], 'job', 'jobs')}, "
            f"{_counted(retried['deliveries'], 'delivery', 'deliveries')}."
        )


def dismiss(
    job: Annotated[
        int | None, typer.Argument(help="Number of a queued or failed job.")
    ] = None,
    delivery: Annotated[
        int | None, typer.Option(help="Number of a delivery that waits or failed.")
    ] = None,
    data_dir: DataDirectory = None,
    as_json: AsJson = False,
) -> None:
    """Close a job or a delivery that is not wanted any more; `retry` opens it again.

    Example: `secondread dismiss 17`, `secondread dismiss --delivery 4`
    """
    from cli import output  # noqa: PLC0415
    from cli.index import opened_index  # noqa: PLC0415
    from core.database import deliveries  # noqa: PLC0415
    from core.database import jobs as job_rows  # noqa: PLC0415

    with (
        opened_index(opened_settings(data_dir)) as database,
        database.write() as connection,
    ):
        if job is not None and delivery is None:
            job_rows.dismiss(connection, job)
        elif delivery is not None and job is None:
            deliveries.give_up(connection, delivery)
        else:
            raise typer.BadParameter("give a job's number or --delivery NUMBER")
    if as_json:
        output.print_json({"job": job, "delivery": delivery})
    else:
        output.messages().print(
            f"Closed: {'job' if delivery is None else 'delivery'} {job or delivery}."
        )


def _everything_failed(connection: "Connection") -> dict[str, list[int]]:
    from core.database.overview import delivery_lines, job_lines  # noqa: PLC0415
    from core.lifecycle import DeliveryState, JobState  # noqa: PLC0415

    many: Any = 1_000_000
    return {
        "jobs": [
            line.id for line in job_lines(connection, state=JobState.FAILED, limit=many)
        ],
        "deliveries": [
            line.id
            for line in delivery_lines(
                connection, state=DeliveryState.FAILED, limit=many
            )
        ],
    }


def _counted(numbers: list[int], one: str, several: str) -> str:
    return f"{len(numbers)} {one if len(numbers) == 1 else several}"
