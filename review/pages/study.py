"""One study: what the model says of it, and what the reader says of that."""

import time
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from core.assessment import Assessment, Decision, FindingChange, Reader, assess
from core.database import (
    assessments,
    deliveries,
    events,
    reports,
    studies,
    worklist,
)
from core.database.accounts import Role
from core.database.assessments import AssessmentRow
from core.database.reports import ReportRow
from core.domain import Analysed, Code, Laterality, NotAnalysed, Presence
from core.errors import (
    AlreadyAssessed,
    IllegalTransition,
    InvalidAssessment,
    ReaderError,
    SecondreadError,
    UnsupportedImage,
)
from core.lifecycle import DeliveryState
from core.settings import code_of
from review.access.gate import may, session_of
from review.decisions import Result, result_of_job, results_of_study
from review.pages.cards import band_of
from review.pages.desk import Office, actor_of, office_of, render

__all__ = ["act", "decision_fragment", "preview", "study_page"]

_DECISIONS = {
    "accept": Decision.ACCEPTED,
    "amend": Decision.AMENDED,
    "reject": Decision.REJECTED,
    "withdraw": Decision.WITHDRAWN,
}
ACTIONS = (*_DECISIONS, "undo")


@dataclass(frozen=True)
class Standing:
    """Where a decision is on its way, in words for the page."""

    row: AssessmentRow | None
    words: str
    kind: str
    """`open`, `undo`, `moving`, `stored`, `failed` or `kept`."""
    undo_until: float
    now: float


def study_page(request: Request) -> Response:
    """Show a study."""
    return _page(request, error="", status=200)


def decision_fragment(request: Request) -> Response:
    """Return where a decision is now, for a page that waits for it."""
    office = office_of(request)
    results = results_of_study(office.database, request.path_params["study"])
    job_id = int(request.path_params["job"])
    found = next((one for one in results if one.job.id == job_id), None)
    if found is None:
        return PlainTextResponse("There is no such result.\n", 404)
    return render(
        request,
        "decision.html",
        {"result": found, "standing": _standing(office, found)},
    )


def preview(request: Request) -> Response:
    """Return a picture of an instance."""
    office = office_of(request)
    study, instance = request.path_params["study"], request.path_params["instance"]
    frame = request.query_params.get("frame", "1")
    with office.database.read() as connection:
        sha256 = studies.instance_of_study(connection, study, instance)
    if sha256 is None or not frame.isdecimal():
        return PlainTextResponse("There is no such image.\n", 404)
    try:
        picture = office.previews.render(office.store.path_of(sha256), int(frame))
    except UnsupportedImage as error:
        return PlainTextResponse(f"{error}\n", 422)
    return Response(picture.png, media_type="image/png")


async def act(request: Request) -> Response:
    """Accept, amend, reject, withdraw or undo."""
    form = await request.form()
    return await run_in_threadpool(_act, request, form)


def _act(request: Request, form: FormData) -> Response:
    uid = request.path_params["study"]
    if request.path_params["action"] not in ACTIONS:
        return PlainTextResponse("There is no such act.\n", 404)
    if not may(session_of(request), Role.READER):
        return PlainTextResponse("Only readers decide on results.\n", 403)
    try:
        _perform(request, form)
    except AlreadyAssessed as error:
        return _page(request, error=str(error), status=409)
    except (ReaderError, IllegalTransition) as error:
        return _page(request, error=str(error), status=422)
    except SecondreadError as error:
        return _page(request, error=f"Nothing was decided: {error}", status=500)
    return RedirectResponse(f"/studies/{uid}", 303)


def _perform(request: Request, form: FormData) -> None:
    office = office_of(request)
    result = result_of_job(office.database, int(request.path_params["job"]))
    if result.study_instance_uid != request.path_params["study"]:
        raise InvalidAssessment("the result is of another study")
    action = request.path_params["action"]
    seen = str(form.get("version", ""))
    if action == "undo":
        office.desk.undo(result, int(seen or 0), actor_of(request))
        return
    if seen != str(result.version):
        first = result.standing
        who = first.assessment.reader.login if first else "somebody"
        what = first.decision.value if first else "changed"
        raise AlreadyAssessed(
            f"{who} has {what} this result since you opened it. Nothing was "
            "overwritten; what they decided is shown below"
        )
    made = _assessment(office, request, result, action, form)
    if action == "withdraw":
        if form.get("sure") != "yes":
            raise InvalidAssessment("confirm that archives shall hide the result")
        office.desk.withdraw(
            result, made, actor_of(request), for_safety=form.get("safety") == "yes"
        )
        return
    office.desk.decide(result, made, actor_of(request))


def _assessment(
    office: Office, request: Request, result: Result, action: str, form: FormData
) -> Assessment:
    decision = _DECISIONS[action]
    if not isinstance(result.reading, Analysed):
        raise InvalidAssessment("there is no answer to assess")
    account = session_of(request).account
    review = office.settings.review
    reader = Reader(
        account.login, account.family_name, account.given_name, review.organization
    )
    amended = decision is Decision.AMENDED
    return assess(
        result.reading,
        decision,
        reader,
        changes=_changes(office, result.reading, form) if amended else None,
        reason=_chosen(review.reasons, str(form.get("reason", ""))),
        comment=str(form.get("comment", "")),
    )


def _changes(
    office: Office, reading: Analysed, form: FormData
) -> dict[str, FindingChange]:
    changes = {}
    for finding in reading.findings:
        name = finding.tracking_identifier
        try:
            presence = Presence(str(form.get(f"presence:{name}", "")))
            side = str(form.get(f"laterality:{name}", ""))
            laterality = Laterality(side) if side else None
        except ValueError as error:
            raise InvalidAssessment(f"finding {name!r} has no usable answer") from error
        place = str(form.get(f"site:{name}", ""))
        own = finding.site
        site = (
            own
            if own is not None and place == own.value
            else _chosen(office.settings.review.sites, place)
        )
        comment = str(form.get(f"comment:{name}", ""))
        changes[name] = FindingChange(presence, site, laterality, comment)
    return changes


def _chosen(texts: tuple[str, ...], value: str) -> Code | None:
    return next((code for code in map(code_of, texts) if code.value == value), None)


def _page(request: Request, *, error: str, status: int) -> Response:
    office = office_of(request)
    uid = request.path_params["study"]
    with office.database.read() as connection:
        study = studies.study_by_uid(connection, uid)
        entry = worklist.entry_of_study(connection, uid)
        before = (
            worklist.priors(connection, study.id, str(entry.patient_id))
            if study is not None and entry is not None
            else ()
        )
    if study is None or entry is None:
        return render(request, "missing.html", {"what": f"study {uid}"}, status=404)
    office.record(request, "view study", study_instance_uid=uid)
    results = results_of_study(office.database, uid)
    values = {
        "study": study,
        "entry": entry,
        "error": error,
        "results": [_result_values(office, result) for result in results],
        "priors": before,
        "reports": _reports(office, study.id),
        "timeline": _timeline(office, study.id),
        "pictures": _pictures(office, study.id, results),
        "reasons": [code_of(text) for text in office.settings.review.reasons],
        "presences": list(Presence),
        "lateralities": list(Laterality),
    }
    return render(request, "study.html", values, status=status)


def _result_values(office: Office, result: Result) -> dict[str, object]:
    reading = result.reading
    sites = [code_of(text) for text in office.settings.review.sites]
    return {
        "result": result,
        "analysed": isinstance(reading, Analysed),
        "not_analysed": isinstance(reading, NotAnalysed),
        "reading": reading,
        "standing": _standing(office, result),
        "bands": {
            finding.tracking_identifier: band_of(
                office.settings, result.job.bundle_sha256, finding.tracking_identifier
            )
            for finding in (reading.findings if isinstance(reading, Analysed) else ())
        },
        "sites": sites,
        "history": [(row, _delivered(office, result, row)) for row in result.decisions],
    }


def _standing(office: Office, result: Result) -> Standing:
    row, now = result.standing, time.time()
    if row is None:
        return Standing(None, "", "open", 0.0, now)
    words, kind = _delivered(office, result, row)
    if now < row.undo_until and kind in ("moving", "kept"):
        kind = "undo"
    return Standing(row, words, kind, row.undo_until, now)


def _delivered(office: Office, result: Result, row: AssessmentRow) -> tuple[str, str]:
    """Say how far the documents of a decision have come, and which kind of far."""
    name = assessments.document_kind(row.decision, row.number)
    with office.database.read() as connection:
        documents = {
            one.id
            for one in reports.reports_of_study(connection, result.job.study_id)
            if one.job_id == result.job.id and one.document_kind == name
        }
        sent = [
            one
            for one in deliveries.deliveries_of_study(connection, result.job.study_id)
            if one.report_id in documents
        ]
    if not documents:
        return "taken back", "kept"
    if not sent:
        return "kept here: the result went to no destination", "kept"
    failed = [one.destination for one in sent if one.state is DeliveryState.FAILED]
    if failed:
        return f"delivery to {', '.join(failed)} failed", "failed"
    if all(one.state is DeliveryState.DELIVERED for one in sent):
        return f"stored at {', '.join(one.destination for one in sent)}", "stored"
    if all(one.state is DeliveryState.HELD for one in sent):
        return "held here with the result", "kept"
    missing = [
        one.destination for one in sent if one.state is not DeliveryState.DELIVERED
    ]
    return f"on its way to {', '.join(missing)}", "moving"


def _reports(office: Office, study_id: int) -> list[dict[str, object]]:
    from worker.report.text import report_tree  # noqa: PLC0415 - pydicom

    with office.database.read() as connection:
        rows = reports.reports_of_study(connection, study_id)
    shown: list[dict[str, object]] = []
    for row in reversed(rows):
        shown.append({"row": row, "tree": _tree(office, row, report_tree)})
    return shown


def _tree(office: Office, row: ReportRow, read: Any) -> object:
    try:
        return read(office.store.read_report(row.sha256))
    except SecondreadError:
        return None


def _timeline(office: Office, study_id: int) -> list[events.EventRow]:
    with office.database.read() as connection:
        return events.events_of_study(connection, study_id)[-40:]


def _pictures(
    office: Office, study_id: int, results: list[Result]
) -> list[dict[str, object]]:
    """List the images to show: those that were read, with their outlines, or one."""
    shown: dict[tuple[str, int], dict[str, object]] = {}
    for result in results:
        reading = result.reading
        for image in reading.images[:8]:
            key = (image.sop_instance_uid, image.frame_number or 1)
            regions = [
                region
                for finding in (
                    reading.findings if isinstance(reading, Analysed) else ()
                )
                for region in finding.regions
                if region.image.sop_instance_uid == image.sop_instance_uid
            ]
            shown.setdefault(key, _picture(office, study_id, *key, regions))
    if not shown:
        with office.database.read() as connection:
            uid = studies.first_image_uid(connection, study_id)
        if uid is not None:
            shown[uid, 1] = _picture(office, study_id, uid, 1, [])
    return list(shown.values())


def _picture(
    office: Office, study_id: int, uid: str, frame: int, regions: list[Any]
) -> dict[str, object]:
    values: dict[str, object] = {"uid": uid, "frame": frame, "outlines": []}
    if not regions:
        return values
    with office.database.read() as connection:
        study = studies.study_by_id(connection, study_id)
        sha256 = (
            studies.instance_of_study(connection, study.study_instance_uid, uid)
            if study
            else None
        )
    try:
        size = office.previews.render(office.store.path_of(sha256 or ""), frame)
    except SecondreadError:
        return values
    return values | {
        "rows": size.rows,
        "columns": size.columns,
        "outlines": [
            " ".join(f"{x:.1f},{y:.1f}" for x, y in region.points) for region in regions
        ],
    }
