"""The application: every page and act, behind the gate."""

from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from core.database.engine import Database
from core.log import get_log
from core.settings import ReviewSettings, Settings
from dicom_node.instance_store import InstanceStore
from review.access.gate import Gate
from review.access.limits import AttemptLimit
from review.decisions import Desk
from review.pages import api, cards, login, people, queue, study, worklist
from review.pages.desk import Office
from review.preview import Previews

__all__ = ["review_application"]

_STATIC = Path(__file__).parent / "static"
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_GET, _POST = ["GET"], ["POST"]


def review_application(settings: Settings, database: Database) -> Starlette:
    """Put the pages of an installation together.

    Parameters
    ----------
    settings
        The whole tree.
    database
        The index, brought up to date.
    """
    store = InstanceStore(settings.data_dir, durable=settings.store.durable_writes)
    application = Starlette(
        routes=_routes(),
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=_hosts(settings.review)),
            Middleware(Gate, database=database, settings=settings.review),
        ],
        exception_handlers={Exception: _failed},
    )
    application.state.office = Office(
        settings=settings,
        database=database,
        store=store,
        desk=Desk(settings, database),
        previews=Previews(settings.worker.maximum_decoded_bytes),
        attempts=AttemptLimit(settings.review.login_attempts),
    )
    return application


def _routes() -> list[BaseRoute]:
    one = "/studies/{study}"
    return [
        Route("/healthz", _alive, methods=_GET),
        Mount("/static", StaticFiles(directory=_STATIC)),
        Route("/login", login.login_page, methods=_GET),
        Route("/login", login.log_in, methods=_POST),
        Route("/logout", login.log_out, methods=_POST),
        Route("/start/{token}", login.start_page, methods=_GET),
        Route("/start/{token}", login.start, methods=_POST),
        Route("/", worklist.worklist_page, methods=_GET),
        Route("/", worklist.narrow, methods=_POST),
        Route("/worklist/rows", worklist.worklist_rows, methods=_GET),
        Route(one, study.study_page, methods=_GET),
        Route(f"{one}/next", worklist.next_study, methods=_GET),
        Route(f"{one}/instances/{{instance}}/preview", study.preview, methods=_GET),
        Route(
            f"{one}/results/{{job:int}}/decision",
            study.decision_fragment,
            methods=_GET,
        ),
        Route(f"{one}/results/{{job:int}}/{{action}}", study.act, methods=_POST),
        Route("/queue", queue.queue_page, methods=_GET),
        Route("/queue/body", queue.queue_body, methods=_GET),
        Route("/queue/{what}/{number:int}/{action}", queue.change, methods=_POST),
        Route("/models", cards.models_page, methods=_GET),
        Route("/models/{name}", cards.model_page, methods=_GET),
        Route("/api/openapi.json", api.openapi, methods=_GET),
        Route("/api/results", api.results_json, methods=_GET),
        Route("/api/studies/{study}", api.study_json, methods=_GET),
        Route("/api/jobs", api.jobs_json, methods=_GET),
        Route("/api/assessments.csv", api.assessments_csv, methods=_GET),
        Route("/accounts", people.people_page, methods=_GET),
        Route("/accounts/invite", people.invite, methods=_POST),
        Route("/accounts/{login}/{action}", people.change_account, methods=_POST),
        Route("/audit", people.audit_page, methods=_GET),
    ]


def _hosts(settings: ReviewSettings) -> list[str]:
    """Which names a browser may ask by; on loopback a foreign one is an attack."""
    if settings.hosts:
        return list(settings.hosts)
    loopback = settings.bind_address in ("localhost", "::1") or (
        settings.bind_address.startswith("127.")
    )
    return list(_LOOPBACK) if loopback else ["*"]


def _alive(_request: Request) -> Response:
    return PlainTextResponse("ok\n")


def _failed(_request: Request, error: Exception) -> Response:
    # The text of an error may quote a data set; its class does not.
    get_log().error("page_failed", error=type(error).__name__)
    return PlainTextResponse("Something went wrong; the log tells where.\n", 500)
