"""The queue: what is open, what failed and why, and where reports go."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from core.database import deliveries, jobs, overview
from core.database.accounts import Role
from core.errors import IllegalTransition
from core.lifecycle import DeliveryState, JobState
from review.access.gate import may, session_of
from review.pages.desk import office_of, render

__all__ = ["change", "queue_body", "queue_page"]

_SHOWN = 50


def queue_page(request: Request) -> Response:
    """Show the queue."""
    return render(request, "queue.html", _values(request))


def queue_body(request: Request) -> Response:
    """Return its tables alone, for a page that keeps itself up to date."""
    return render(request, "queue_body.html", _values(request))


async def change(request: Request) -> Response:
    """Retry or close a job or a delivery."""
    return await run_in_threadpool(_change, request)


def _change(request: Request) -> Response:
    if not may(session_of(request), Role.OPERATOR):
        return PlainTextResponse("Only operators change the queue.\n", 403)
    office = office_of(request)
    what, number = request.path_params["what"], int(request.path_params["number"])
    action = request.path_params["action"]
    acts = {
        ("jobs", "retry"): jobs.retry,
        ("jobs", "dismiss"): jobs.dismiss,
        ("deliveries", "retry"): deliveries.retry,
        ("deliveries", "dismiss"): deliveries.give_up,
    }
    if (what, action) not in acts:
        return PlainTextResponse("There is no such act.\n", 404)
    try:
        with office.database.write() as connection:
            acts[what, action](connection, number)
    except IllegalTransition:
        pass  # somebody was faster; the page shows how it is now
    office.record(request, f"{action} {what[:-1]}", detail=f"{what[:-1]} {number}")
    return RedirectResponse("/queue", 303)


def _values(request: Request) -> dict[str, object]:
    office = office_of(request)
    with office.database.read() as connection:
        open_jobs = [
            line
            for state in (JobState.RUNNING, JobState.INFERRED, JobState.QUEUED)
            for line in overview.job_lines(connection, state=state, limit=_SHOWN)
        ]
        values = {
            "backlog": overview.backlog(connection),
            "failed_jobs": overview.job_lines(
                connection, state=JobState.FAILED, limit=_SHOWN
            ),
            "open_jobs": open_jobs[:_SHOWN],
            "failed_deliveries": overview.delivery_lines(
                connection, state=DeliveryState.FAILED, limit=_SHOWN
            ),
            "destinations": overview.destination_lines(connection),
            "conflicts": overview.recent_conflicts(connection, limit=10),
        }
    known = {entry.name: entry for entry in office.settings.destinations}
    return {**values, "known": known, "job_states": list(JobState)}
