"""What every page works with, and how a template becomes an answer."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from core.database import audit
from core.database.accounts import Role, SessionRow
from core.database.engine import Database
from core.settings import Settings
from dicom_node.instance_store import InstanceStore
from review.access.gate import FORM_COOKIE, address_of, form_token, may
from review.access.limits import AttemptLimit
from review.decisions import Actor, Desk
from review.patient import shown_age, shown_date
from review.preview import Previews

__all__ = ["Office", "actor_of", "office_of", "render"]

_TEMPLATES = Path(__file__).parent.parent / "templates"


@dataclass(frozen=True)
class Office:
    """Everything the pages share."""

    settings: Settings
    database: Database
    store: InstanceStore
    desk: Desk
    previews: Previews
    attempts: AttemptLimit

    def record(
        self,
        request: Request,
        action: str,
        *,
        study_instance_uid: str | None = None,
        detail: str | None = None,
        who: str | None = None,
    ) -> None:
        """Add a row to the audit trail."""
        session: SessionRow | None = request.state.session
        with self.database.write() as connection:
            audit.record(
                connection,
                who=who or (session.account.login if session else "-"),
                address=address_of(request),
                action=action,
                study_instance_uid=study_instance_uid,
                detail=detail,
            )


def office_of(request: Request) -> Office:
    """Return what the application was made with."""
    office: Office = request.app.state.office
    return office


def actor_of(request: Request) -> Actor:
    """Return who acts."""
    session: SessionRow = request.state.session
    return Actor(
        session.account.login,
        address_of(request),
        may_undo_others=session.account.role is Role.ADMIN,
    )


def render(
    request: Request,
    template: str,
    values: Mapping[str, object],
    *,
    status: int = 200,
) -> Response:
    """Fill a template; whatever peers and people wrote is escaped."""
    session: SessionRow | None = request.state.session
    token = form_token(request)
    text = _ENVIRONMENT.get_template(template).render(
        session=session,
        may_decide=session is not None and may(session, Role.READER),
        may_operate=session is not None and may(session, Role.OPERATOR),
        is_admin=session is not None and session.account.role is Role.ADMIN,
        csrf_token=token,
        path=request.url.path,
        **values,
    )
    response = HTMLResponse(text, status)
    if session is None and request.cookies.get(FORM_COOKIE) != token:
        response.set_cookie(
            FORM_COOKIE,
            token,
            httponly=True,
            samesite="strict",
            secure=office_of(request).settings.review.https,
        )
    return response


def _ago(at: float | None) -> str:
    if at is None:
        return ""
    seconds = max(0.0, time.time() - at)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _clock(at: float | None) -> str:
    if at is None:
        return ""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _percent(value: float) -> str:
    """Write a probability as reports do, without more digits than it deserves."""
    return f"{100 * value:.1f}".rstrip("0").rstrip(".") + " %"


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(ago=_ago, clock=_clock, percent=_percent, date=shown_date)
    made.globals["age"] = shown_age
    return made


_ENVIRONMENT = _environment()
