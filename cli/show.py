"""`secondread show`: one study, from its first instance to its report's delivery."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cli import output
from cli.options import AsJson, DataDirectory, opened_settings
from cli.studies import Study

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console
    from sqlalchemy import Connection

    from core.settings import Settings

__all__ = ["print_jobs", "print_report_tree", "show", "study_document"]


def show(study: Study, data_dir: DataDirectory = None, as_json: AsJson = False) -> None:
    """Show one study: timeline, series, jobs, findings, deliveries and its report.

    Example: `secondread show 1.2.840.113619.2.55.1`
    """
    from cli.index import opened_index, the_one_study  # noqa: PLC0415

    settings = opened_settings(data_dir)
    with opened_index(settings) as database, database.read() as connection:
        uid = the_one_study(connection, study)
        document = study_document(connection, settings, uid)
    if as_json:
        output.print_json(document)
        return
    console = output.standard_output()
    _print_head(console, document)
    _print_timeline(console, document["timeline"])
    _print_series(console, document["series"])
    print_jobs(console, document["jobs"])
    _print_deliveries(console, document["deliveries"])
    for report in document["reports"]:
        _print_report(console, report)


def study_document(
    connection: "Connection", settings: "Settings", uid: str
) -> dict[str, Any]:
    """Collect everything that is known of a study, as `show --json` prints it."""
    from core.database import (  # noqa: PLC0415
        deliveries,
        events,
        jobs,
        overview,
        reports,
        studies,
    )
    from core.errors import InternalError  # noqa: PLC0415

    row = studies.study_by_uid(connection, uid)
    if row is None:
        raise InternalError(f"study {uid} was forgotten while it was looked at")
    return {
        **dataclasses.asdict(row),
        "conflicting_instances": overview.conflicts_of_study(connection, row.id),
        "timeline": _timeline(events.events_of_study(connection, row.id)),
        "series": [
            dataclasses.asdict(line)
            for line in overview.series_of_study(connection, row.id)
        ],
        "jobs": [_job(line) for line in jobs.jobs_of_study(connection, row.id)],
        "deliveries": [
            dataclasses.asdict(line)
            for line in deliveries.deliveries_of_study(connection, row.id)
        ],
        "reports": [
            {**dataclasses.asdict(line), "path": _report_path(settings, line.sha256)}
            for line in reports.reports_of_study(connection, row.id)
        ],
    }


def _report_path(settings: "Settings", sha256: str) -> str:
    from dicom_node.instance_store import InstanceStore  # noqa: PLC0415

    return str(InstanceStore(settings.data_dir).report_path(sha256))


def _timeline(rows: Sequence[Any]) -> list[dict[str, Any]]:
    ordered = sorted(rows, key=lambda row: row.at)
    first = ordered[0].at if ordered else 0.0
    return [
        {
            "event": row.name,
            "detail": row.detail,
            "job_id": row.job_id,
            "at": row.at,
            "since_start_s": round(row.at - first, 3),
            "since_previous_s": round(row.at - before.at, 3),
        }
        for row, before in zip(ordered, [*ordered[:1], *ordered], strict=False)
    ]


def _job(row: Any) -> dict[str, Any]:
    from core.domain import reading_from_json  # noqa: PLC0415

    document = dataclasses.asdict(row)
    del document["lease_token"]
    reading = reading_from_json(row.reading) if row.reading else None
    document["reading"] = dataclasses.asdict(reading) if reading else None
    return document


def _print_head(console: "Console", document: dict[str, Any]) -> None:
    console.print(f"Study [bold]{document['study_instance_uid']}[/bold]")
    console.print(
        f"  {document['state']}, {document['instance_count']} instances from "
        f"{document['calling_ae_title']} ({document['peer_address']}), "
        f"priority {document['order_priority']}",
        markup=False,
    )
    for key, words in (
        ("settle_reason", "settled because"),
        ("no_job_reason", "no reading because"),
    ):
        if document[key]:
            console.print(f"  {words}: {document[key]}", markup=False)
    if document["conflicting_instances"]:
        console.print(
            f"  [yellow]{document['conflicting_instances']} instances were refused: "
            "their UID is kept with other content[/]"
        )


def _print_timeline(console: "Console", timeline: list[dict[str, Any]]) -> None:
    shown = output.table(
        "time", "after", "event", "detail", title="\nTimeline", numbers=("after",)
    )
    for entry in timeline:
        shown.add_row(
            output.clock_time(entry["at"]),
            f"+{output.duration(entry['since_previous_s'])}",
            entry["event"],
            output.plain(entry["detail"] or ""),
        )
    console.print(shown)


def _print_series(console: "Console", series: list[dict[str, Any]]) -> None:
    from pydicom.uid import UID  # noqa: PLC0415

    shown = output.table(
        "series", "modality", "instances", "size", "what", "transfer syntax",
        title="\nSeries", numbers=("instances", "size"),
    )  # fmt: skip
    for line in series:
        shown.add_row(
            line["series_instance_uid"],
            output.plain(line["modality"]),
            str(line["instances"]),
            output.size(line["bytes"]),
            ", ".join(UID(uid).name for uid in line["sop_class_uids"])
            + (" (our result)" if line["own_results"] else ""),
            ", ".join(UID(uid).name for uid in line["transfer_syntax_uids"]),
        )
    console.print(shown)


def print_jobs(console: "Console", jobs: list[dict[str, Any]]) -> None:
    """Print each job: its state, what its model said, and how long that took."""
    for job in jobs:
        console.print(
            f"\n[bold]Job {job['id']}[/bold]: {job['model']} {job['model_version']}, "
            f"rule {job['rule']!r}, attempts {job['attempts']}: ",
            output.styled(job["state"]),
        )
        if job["reason"]:
            explanation = f": {job['explanation']}" if job["explanation"] else ""
            console.print(f"  last attempt: {job['reason']}{explanation}", markup=False)
        _print_reading(console, job["reading"])
        stages = ", ".join(
            f"{stage} {output.duration(seconds)}"
            for stage, seconds in (job["timings"] or {}).items()
        )
        if stages:
            console.print(f"  stages: {stages}", markup=False)


def _print_reading(console: "Console", reading: dict[str, Any] | None) -> None:
    """Print what a model said: findings with their probabilities, or why none."""
    if reading is None:
        return
    if reading["outcome"] != "analysed":
        console.print(
            f"  {reading['outcome']}: {reading['reason']} - {reading['explanation']}",
            markup=False,
        )
        return
    shown = output.table(
        "  finding", "answer", "probability", "threshold",
        numbers=("probability", "threshold"),
    )  # fmt: skip
    for finding in reading["findings"]:
        shown.add_row(
            f"  {finding['code']['meaning']}",
            output.styled(str(finding["presence"])),
            f"{finding['probability']:.3f}",
            f"{finding['threshold']:.3f}",
        )
    console.print(shown)
    for note in reading["notes"]:
        console.print(f"  note: {note}", markup=False)


def _print_deliveries(console: "Console", deliveries: list[dict[str, Any]]) -> None:
    if not deliveries:
        return
    shown = output.table(
        "delivery", "to", "state", "attempts", "last answer",
        title="\nDeliveries", numbers=("delivery", "attempts"),
    )  # fmt: skip
    for line in deliveries:
        shown.add_row(
            str(line["id"]),
            line["destination"],
            output.styled(line["state"]),
            str(line["attempts"]),
            output.plain(line["last_answer"] or ""),
        )
    console.print(shown)


def _print_report(console: "Console", report: dict[str, Any]) -> None:
    from pathlib import Path  # noqa: PLC0415

    path = Path(report["path"])
    console.print(f"\n[bold]Report[/bold] ({report['document_kind']}) {path}")
    if path.exists():
        print_report_tree(console, path)
    else:
        console.print("  [red]its file is missing[/]")


def print_report_tree(console: "Console", path: "Path") -> None:
    """Print a structured report's content tree."""
    from rich.markup import escape  # noqa: PLC0415
    from rich.tree import Tree  # noqa: PLC0415

    from worker.report.text import TextNode, report_tree  # noqa: PLC0415

    def text(node: TextNode) -> str:
        label = escape(node.label)
        return f"{label}: [bold]{escape(node.value)}[/]" if node.value else label

    def grow(branch: Tree, node: TextNode) -> None:
        for child in node.children:
            grow(branch.add(text(child)), child)

    root = report_tree(path.read_bytes())
    tree = Tree(text(root), guide_style="dim")
    grow(tree, root)
    console.print(tree)
