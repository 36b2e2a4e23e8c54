"""The worklist: every study, what needs a reader first."""

import json
from dataclasses import asdict, replace

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from core.database import accounts, worklist
from core.database.worklist import SORTS, WorklistFilter, WorklistState
from review.access.gate import session_of
from review.pages.desk import office_of, render

__all__ = ["filter_of", "narrow", "next_study", "worklist_page", "worklist_rows"]

_MODALITIES = ("CR", "DX", "CT", "MR", "MG", "US", "NM", "PT", "XA")


def filter_of(request: Request) -> WorklistFilter:
    """Return what this session's list is narrowed to."""
    text = session_of(request).worklist_filter
    return WorklistFilter(**json.loads(text)) if text else WorklistFilter()


def worklist_page(request: Request) -> Response:
    """Show the list."""
    page = request.query_params.get("page", "")
    wanted = filter_of(request)
    if page.isdecimal():
        wanted = replace(wanted, page=int(page))
        _keep(request, wanted)
    office_of(request).record(request, "view worklist")
    return render(request, "worklist.html", _values(request, wanted))


def worklist_rows(request: Request) -> Response:
    """Return the list alone, for a page that keeps itself up to date."""
    return render(request, "worklist_rows.html", _values(request, filter_of(request)))


async def narrow(request: Request) -> Response:
    """Narrow the list. By POST: a patient's name must not stand in a URL."""
    form = await request.form()
    state, sort = str(form.get("state", "")), str(form.get("sort", "urgency"))
    modality = str(form.get("modality", ""))
    wanted = WorklistFilter(
        text=str(form.get("text", "")).strip()[:100],
        state=state if state in list(WorklistState) else "",
        modality=modality if modality in _MODALITIES else "",
        sort=sort if sort in SORTS else "urgency",
    )
    await run_in_threadpool(_keep, request, wanted)
    return RedirectResponse("/", 303)


def next_study(request: Request) -> Response:
    """Go to what should be read next."""
    uid = request.path_params["study"]
    with office_of(request).database.read() as connection:
        found = worklist.next_unreviewed(connection, after=uid)
    return RedirectResponse(f"/studies/{found}" if found else "/", 303)


def _keep(request: Request, wanted: WorklistFilter) -> None:
    with office_of(request).database.write() as connection:
        accounts.keep_filter(
            connection, session_of(request), json.dumps(asdict(wanted))
        )


def _values(request: Request, wanted: WorklistFilter) -> dict[str, object]:
    with office_of(request).database.read() as connection:
        page = worklist.page(connection, wanted)
    return {
        "wanted": wanted,
        "page": page,
        "states": list(WorklistState),
        "modalities": _MODALITIES,
        "everything": sum(page.by_state.values()),
        "narrowed": bool(wanted.text or wanted.modality or wanted.state),
    }
