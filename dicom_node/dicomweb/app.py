"""The DICOMweb application: its resources, and how every request ends.

`dicomweb_app` is mounted wherever a site wants it (the node serves it under
`/dicom-web`); who may use it is decided by the callable that is passed in.
"""

from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from core.database.engine import Database
from core.log import get_log
from core.settings import Settings
from dicom_node.dicomweb.access import Authorise
from dicom_node.dicomweb.answers import answer_for_error, refusal
from dicom_node.dicomweb.qido import Searching
from dicom_node.dicomweb.rendered import Rendering
from dicom_node.dicomweb.renderer import Renderer
from dicom_node.dicomweb.service import Service
from dicom_node.dicomweb.stow import Storing
from dicom_node.dicomweb.wado import Retrieving
from dicom_node.guards.quiet import quiet_pynetdicom
from dicom_node.instance_store import InstanceStore
from dicom_node.query.search import Search
from dicom_node.receive import Receiver

__all__ = ["dicomweb_app"]

Endpoint = Callable[[Request], Response]
AsyncEndpoint = Callable[[Request], Awaitable[Response]]

_STUDY = "/studies/{study}"
_SERIES = _STUDY + "/series/{series}"
_INSTANCE = _SERIES + "/instances/{instance}"


def dicomweb_app(
    settings: Settings,
    database: Database,
    store: InstanceStore,
    *,
    authorise: Authorise,
    receiver: Receiver | None = None,
    renderer: Renderer | None = None,
) -> Starlette:
    """Put a DICOMweb origin server together.

    Parameters
    ----------
    settings
        `dicomweb` and the node's AE title.
    database, store
        Index and files.
    authorise
        Asked with each request and what it wants to do; see `access.Authorise`.
    receiver
        Takes in what STOW-RS sends; None where instances are not received.
    renderer
        Decodes pixels; None where frames are sent as stored and nothing is rendered.

    Returns
    -------
    An ASGI application for `Mount("/dicom-web", …)`.
    """
    quiet_pynetdicom()
    service = Service(
        settings=settings.dicomweb,
        node=settings.node,
        database=database,
        store=store,
        search=Search(database, store),
        authorise=authorise,
        receiver=receiver,
        renderer=renderer,
    )
    return Starlette(
        routes=_routes(service),
        exception_handlers={Exception: _failed},
    )


def _routes(service: Service) -> list[BaseRoute]:
    searching, retrieving = Searching(service), Retrieving(service)
    rendering = Rendering(service)
    gets: list[tuple[str, Endpoint]] = [
        ("/studies", searching.studies),
        ("/series", searching.series),
        ("/instances", searching.instances),
        (_STUDY + "/series", searching.series),
        (_STUDY + "/instances", searching.instances),
        (_SERIES + "/instances", searching.instances),
        *(
            (place + suffix, endpoint)
            for place in (_STUDY, _SERIES, _INSTANCE)
            for suffix, endpoint in (
                ("", retrieving.instances),
                ("/metadata", retrieving.metadata),
                ("/rendered", rendering.rendered),
                ("/thumbnail", rendering.thumbnail),
            )
        ),
        (_INSTANCE + "/frames/{frames}", retrieving.frames),
        (_INSTANCE + "/frames/{frames}/rendered", rendering.rendered),
        (_INSTANCE + "/frames/{frames}/thumbnail", rendering.thumbnail),
        (_INSTANCE + "/bulk/{path:path}", retrieving.bulk_data),
    ]
    storing = Storing(service)
    return [
        *(
            Route(path, _answering(endpoint), methods=["GET"])
            for path, endpoint in gets
        ),
        *(
            Route(path, _answering_async(storing.store), methods=["POST"])
            for path in ("/studies", _STUDY)
        ),
    ]


def _answering(endpoint: Endpoint) -> Endpoint:
    """Turn whatever ends a request into its one status."""

    def answer(request: Request) -> Response:
        try:
            return endpoint(request)
        except Exception as error:  # noqa: BLE001 - no client is left without an answer
            return _refused(error)

    return answer


def _answering_async(endpoint: AsyncEndpoint) -> AsyncEndpoint:
    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Exception as error:  # noqa: BLE001 - no client is left without an answer
            return _refused(error)

    return answer


def _refused(error: Exception) -> Response:
    refused = answer_for_error(error)
    if refused.status >= 500:
        get_log().error(
            "web_request_failed", status=refused.status, error=type(error).__name__
        )
    return refusal(refused)


def _failed(_request: Request, error: Exception) -> Response:
    return refusal(answer_for_error(error))
