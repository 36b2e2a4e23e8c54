"""`secondread demo`: the main job, seen working in a minute."""

import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.exit_codes import FAILURE
from cli.options import AsJson, DataDirectory

if TYPE_CHECKING:
    from types import FrameType

    from cli.demonstration.place import Place
    from cli.demonstration.progress import Progress
    from cli.demonstration.run import Report

__all__ = ["demo"]


def demo(
    given: Annotated[
        Path | None,
        typer.Option(
            "--input",
            metavar="FILE|DIR",
            exists=True,
            show_default=False,
            help="Send these DICOM files, or JPEG/PNG pictures, and not the phantom.",
        ),
    ] = None,
    opacity: Annotated[
        bool, typer.Option(help="Give the phantom an opacity in one lung.")
    ] = True,
    keep: Annotated[
        bool, typer.Option(help="Keep the folder, to look at it afterwards.")
    ] = True,
    time_limit: Annotated[
        float, typer.Option(metavar="SECONDS", min=1, help="Give up after so long.")
    ] = 180.0,
    data_dir: DataDirectory = None,
    as_json: AsJson = False,
) -> None:
    """See the whole way of a study: sent, received, read, reported, delivered.

    Starts broker, node, worker and a receiving PACS on this machine, sends a chest
    radiograph over the network and waits for the report to come back over it. Without
    `--data-dir` a new folder below `./secondread-demo` is used.

    Example: `secondread demo --input my-radiograph.png`
    """
    from cli import output  # noqa: PLC0415
    from cli.demonstration.place import open_place  # noqa: PLC0415
    from cli.demonstration.progress import Progress  # noqa: PLC0415
    from cli.demonstration.run import Wishes, demonstrate  # noqa: PLC0415
    from core.directory_lock import only_one  # noqa: PLC0415

    _stop_in_good_order_on_sigterm()
    began = time.monotonic()
    with (
        open_place(data_dir, keep=keep) as place,
        only_one(place.settings.data_dir, "supervisor"),
    ):
        console = output.messages()
        console.print(f"secondread demo in {place.settings.data_dir}\n", markup=False)
        progress = Progress(console)
        with progress.shown():
            reports = demonstrate(place, Wishes(given, opacity, time_limit), progress)
        took_s = time.monotonic() - began
        if as_json:
            output.print_json(_document(place, reports, progress, took_s))
        else:
            _print_results(place, reports, took_s, keep=keep)
            if given is None:
                console.print(
                    "\nThe phantom is drawn, and no patient: its probability shows "
                    "that the way works, and not how well the model reads."
                )
    if not all(report.paths for report in reports):
        raise typer.Exit(FAILURE)


def _stop_in_good_order_on_sigterm() -> None:
    def stop(_number: int, _frame: "FrameType | None") -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)


def _documents(place: "Place", reports: list["Report"]) -> list[dict[str, Any]]:
    from cli.index import opened_index  # noqa: PLC0415
    from cli.show import study_document  # noqa: PLC0415

    with opened_index(place.settings) as database, database.read() as connection:
        return [
            study_document(connection, place.settings, report.study_instance_uid)
            for report in reports
        ]


def _document(
    place: "Place", reports: list["Report"], progress: "Progress", took_s: float
) -> dict[str, Any]:
    return {
        "ok": all(report.paths for report in reports),
        "duration_s": round(took_s, 3),
        "data_dir": place.settings.data_dir,
        "steps": progress.steps,
        "studies": [
            {
                "study_instance_uid": report.study_instance_uid,
                "arrived": report.paths,
                "why_not": report.why or None,
                "readings": [job["reading"] for job in document["jobs"]],
                "timings": [job["timings"] for job in document["jobs"]],
            }
            for report, document in zip(
                reports, _documents(place, reports), strict=True
            )
        ],
    }


def _print_results(
    place: "Place", reports: list["Report"], took_s: float, *, keep: bool
) -> None:
    from cli import output  # noqa: PLC0415
    from cli.show import print_jobs, print_report_tree  # noqa: PLC0415

    console = output.standard_output()
    for report, document in zip(reports, _documents(place, reports), strict=True):
        console.print(f"\n[bold]Study[/bold] {report.study_instance_uid}")
        print_jobs(console, document["jobs"])
        for path in report.paths:
            console.print(f"\n[bold]The report as it arrived[/bold] {path}")
            print_report_tree(console, path)
        if not report.paths:
            console.print(
                output.plain(f"No report came back: {report.why}"), style="bold red"
            )
    console.print(f"\nDone in {output.duration(took_s)}.")
    if keep:
        option = f"--data-dir {_short(place.settings.data_dir)}"
        uid = reports[0].study_instance_uid
        console.print(
            f"Look further:\n"
            f"  secondread show {uid[-8:]} {option}\n"
            f"  secondread studies {option}\n"
            f"  less {_short(place.log)}\n"
            f"  secondread demo --input YOUR.png     a picture or DICOM of your own\n"
            f"  secondread up                        all of this as a service",
            markup=False,
            soft_wrap=True,
        )


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
