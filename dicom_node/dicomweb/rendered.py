"""Rendered images and thumbnails: JPEG or PNG with the VOI of the image or the client.

Source
------
PS3.18 10.4.1.1.3 (rendered resources), 8.3.5 (rendering query parameters).
"""

import math

from starlette.requests import Request
from starlette.responses import Response

from core.errors import InvalidInstance, UnsupportedImage
from dicom_node.dicomweb.access import Scope
from dicom_node.dicomweb.answers import Refused, not_found
from dicom_node.dicomweb.negotiation import choose_picture
from dicom_node.dicomweb.service import Resource, Service, resource_of
from dicom_node.dicomweb.wado import frame_numbers
from dicom_node.query.frames import frame_count
from dicom_node.query.stored_files import StoredHeader, object_path, read_header

__all__ = ["Rendering"]

_THUMBNAIL = (200, 200)
_LARGEST_SIDE = 8192
_DEFAULT_QUALITY = 90
_FUNCTIONS = {"linear": "LINEAR", "linear-exact": "LINEAR_EXACT", "sigmoid": "SIGMOID"}
# So many objects are looked at for one that can be shown.
_MOST_CANDIDATES = 50


class Rendering:
    """The rendered resources of one service."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def rendered(self, request: Request) -> Response:
        """Render an instance, one of its frames, or what stands for a series."""
        return self._picture(request, size=_viewport(request))

    def thumbnail(self, request: Request) -> Response:
        """Render a small picture of a resource."""
        return self._picture(request, size=_viewport(request) or _THUMBNAIL)

    def _picture(self, request: Request, *, size: tuple[int, int] | None) -> Response:
        self._service.authorise(request, Scope.READ)
        renderer = self._service.renderer
        if renderer is None:
            raise Refused(501, "pictures are not rendered here")
        media_type = choose_picture(request)
        window, quality = _window(request), _quality(request)
        header, number = self._chosen(request, resource_of(request))
        content = renderer.picture(
            header.path, number, media_type=media_type, window=window, size=size,
            quality=quality,
        )  # fmt: skip
        return Response(
            content, media_type=media_type, headers={"Cache-Control": "no-store"}
        )

    def _chosen(self, request: Request, resource: Resource) -> tuple[StoredHeader, int]:
        """Return what is shown: the middle frame, unless the path names one."""
        if resource.instance is not None:
            header = self._service.header(resource)
            if "frames" in request.path_params:
                numbers = frame_numbers(request, frame_count(header))
                if len(numbers) != 1:
                    raise Refused(400, "one frame a picture; ask for each")
                return header, numbers[0]
            if not frame_count(header):
                raise Refused(406, "this instance has no pixels to show")
            return header, (frame_count(header) + 1) // 2
        self._service.first_object(resource)
        header = self._representative(resource)
        return header, (frame_count(header) + 1) // 2

    def _representative(self, resource: Resource) -> StoredHeader:
        """Return an image of a study or a series: the middle of those looked at."""
        headers: list[StoredHeader] = []
        for number, found in enumerate(self._service.objects(resource)):
            if number >= _MOST_CANDIDATES:
                break
            try:
                header = read_header(object_path(self._service.store, found))
                if frame_count(header):
                    headers.append(header)
            except (InvalidInstance, UnsupportedImage):
                continue
        if not headers:
            raise not_found("an image in this study or series")
        return headers[len(headers) // 2]


def _window(request: Request) -> tuple[float, float, str] | None:
    text = request.query_params.get("window")
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    try:
        center, width = float(parts[0]), float(parts[1])
        function = _FUNCTIONS[parts[2].lower() if len(parts) > 2 else "linear"]
    except (IndexError, KeyError, ValueError):
        raise Refused(
            400, "window is center,width[,linear|linear-exact|sigmoid]"
        ) from None
    least = 1.0 if function == "LINEAR" else 0.0
    if (
        not (math.isfinite(center) and math.isfinite(width))
        or width < least
        or not width
    ):
        raise Refused(
            400, "the width of this window is out of range (PS3.3 C.11.2.1.2)"
        )
    return center, width, function


def _viewport(request: Request) -> tuple[int, int] | None:
    text = request.query_params.get("viewport")
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2:
        raise Refused(
            400, "viewport is columns,rows; parts of an image are not offered"
        )
    sides = [int(part) if part.isascii() and part.isdigit() else 0 for part in parts]
    if not all(1 <= side <= _LARGEST_SIDE for side in sides):
        raise Refused(400, f"viewport has sides from 1 to {_LARGEST_SIDE}")
    return sides[0], sides[1]


def _quality(request: Request) -> int:
    text = request.query_params.get("quality", str(_DEFAULT_QUALITY))
    quality = int(text) if text.isascii() and text.isdigit() and len(text) < 4 else 0
    if not 1 <= quality <= 100:
        raise Refused(400, "quality is a number from 1 to 100")
    return quality
