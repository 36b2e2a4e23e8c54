"""The demonstration itself, from the folder to the report that came back."""

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from cli.demonstration.installation import Installation, running_installation
from cli.demonstration.place import PACS_AE_TITLE, Place
from cli.demonstration.progress import Progress
from cli.demonstration.stages import StageReached, Watched
from cli.demonstration.study import DemoStudies, phantom_study, studies_from
from cli.output import size
from core.database.engine import Database, open_database
from core.database.reports import reports_of_study
from core.database.studies import study_by_uid
from core.errors import DestinationRefused, OperatorError
from dicom_node.archive import Archive, Arrival
from dicom_node.senders.c_store import send_files

__all__ = ["Report", "Wishes", "demonstrate"]

_GLANCE_S = 0.05
_LAST_FILE_S = 5.0
_CALLING_AE_TITLE = "DEMOMODALITY"


@dataclass(frozen=True)
class Wishes:
    """What the user asked for."""

    given: Path | None
    opacity: bool
    time_limit_s: float


@dataclass(frozen=True)
class Report:
    """One study's end."""

    study_instance_uid: str
    paths: tuple[Path, ...]
    """Files that came over the network into the PACS; empty: none came."""
    why: str
    """Why none came; empty if one did."""


def demonstrate(place: Place, wishes: Wishes, progress: Progress) -> list[Report]:
    """Send a study over the network, and wait for its report to come back over it.

    Raises
    ------
    SecondreadError
        If a part does not run, or the node does not take the study.
    """
    # What cannot be sent is refused before anything is started or written.
    given = studies_from(wishes.given, place.sent) if wishes.given else None
    with (
        closing(open_database(place.settings)) as database,
        running_installation(place) as installation,
    ):
        # TensorFlow starts in the worker while the phantom is made here.
        progress.waiting("broker, node and worker start")
        studies = given or phantom_study(place.sent, opacity=wishes.opacity)
        _refuse_known(database, studies, place)
        progress.announce(*studies.study_instance_uids)
        progress.step("study ready", f"{studies.description}, {size(studies.bytes)}")
        with Archive(place.pacs, PACS_AE_TITLE, place.pacs_port) as pacs:
            progress.waiting("the node starts")
            installation.wait_until_node_accepts()
            progress.step("node accepts", _address(place))
            _send(place, studies, progress)
            watched = [Watched(uid) for uid in studies.study_instance_uids]
            _watch(database, installation, watched, progress, wishes.time_limit_s)
            return [_arrival(database, pacs, one, progress) for one in watched]


def _refuse_known(database: Database, studies: DemoStudies, place: Place) -> None:
    with database.read() as connection:
        known = [
            uid
            for uid in studies.study_instance_uids
            if study_by_uid(connection, uid) is not None
        ]
    if known:
        raise OperatorError(
            f"study {known[0]} is in {place.settings.data_dir} already, and would not "
            "be read a second time; leave --data-dir out for a new folder, or "
            f"`secondread forget {known[0]} --data-dir {place.settings.data_dir}`"
        )


def _address(place: Place) -> str:
    node = place.settings.node
    return f"{node.ae_title} on 127.0.0.1 port {node.port}"


def _send(place: Place, studies: DemoStudies, progress: Progress) -> None:
    node = place.settings.node
    count = len(studies.files)
    progress.step("sending", f"{count} instance{'s' * (count > 1)} by C-STORE")
    progress.waiting("the node receives")
    results = send_files(
        studies.files,
        host="127.0.0.1",
        port=node.port,
        called=node.ae_title,
        calling=_CALLING_AE_TITLE,
    )
    refused = [result for result in results if not result.ok]
    if len(refused) == len(results):
        first = refused[0]
        raise DestinationRefused(
            f"the node took none of {len(results)} files; {first.path.name}: "
            f"{first.answer.words}"
        )
    if refused:
        first = refused[0]
        progress.step(
            "refused",
            f"{len(refused)} of {count}, e.g. {first.path.name}: {first.answer.words}",
        )


def _watch(
    database: Database,
    installation: Installation,
    watched: Sequence[Watched],
    progress: Progress,
    time_limit_s: float,
) -> None:
    deadline = time.monotonic() + time_limit_s
    while time.monotonic() < deadline:
        installation.check()
        for one in watched:
            for stage in one.look(database):
                progress.reached(stage)
        unfinished = [one for one in watched if not _finished(one)]
        if not unfinished:
            return
        progress.waiting(unfinished[0].waits_for)
        time.sleep(_GLANCE_S)


def _finished(one: Watched) -> bool:
    if one.no_job_reason is not None and not one.open_jobs:
        return True
    delivered = one.has_reached("delivered", "delivery failed")
    return delivered and not one.open_jobs


def _arrival(
    database: Database, pacs: Archive, one: Watched, progress: Progress
) -> Report:
    """Ask the PACS: only what it has kept has come over the network."""
    uid = one.study_instance_uid
    with database.read() as connection:
        row = study_by_uid(connection, uid)
        rows = reports_of_study(connection, row.id) if row else []
    expected = {report.sop_instance_uid for report in rows}
    deadline = time.monotonic() + (_LAST_FILE_S if one.has_reached("delivered") else 0)
    found: dict[str, Arrival] = {}
    while not found:
        for arrival in pacs.arrivals:
            if arrival.sop_instance_uid in expected:
                found.setdefault(arrival.sop_instance_uid, arrival)
        if time.monotonic() >= deadline:
            break
        time.sleep(_GLANCE_S)
    for arrival in found.values():
        progress.reached(
            StageReached(uid, "arrived", arrival.at, "at the PACS, over the network")
        )
    paths = tuple(arrival.path for arrival in found.values())
    return Report(uid, paths, "" if found else _why_none(one))


def _why_none(one: Watched) -> str:
    if one.no_job_reason is not None:
        return f"it was settled, and not read: {one.no_job_reason}"
    for stage in ("delivery failed", "failed"):
        details = [event.detail for event in one.reached if event.stage == stage]
        if details:
            return f"{stage}: {details[-1]}"
    last = one.reached[-1].stage if one.reached else "sent"
    return f"the time limit passed; the last stage was {last!r}"
