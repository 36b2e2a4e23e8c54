"""WADO-RS: whole instances, metadata, frames and bulk data, streamed from the store.

Source
------
PS3.18 10.4 (Retrieve Transaction).
"""

import json
from collections.abc import Iterable, Iterator
from itertools import chain

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from core.database.catalogue import StoredObject
from core.errors import InvalidInstance
from dicom_node.dicomweb.access import Scope
from dicom_node.dicomweb.answers import Refused, not_found
from dicom_node.dicomweb.multipart import Part, multipart_response
from dicom_node.dicomweb.negotiation import (
    EXPLICIT_LITTLE_ENDIAN,
    Representation,
    accepted,
    choose_frames,
    choose_json,
    choose_objects,
    media_type_of_syntax,
)
from dicom_node.dicomweb.service import Resource, Service, resource_of
from dicom_node.query.frames import (
    frame_count,
    is_encapsulated,
    native_frame,
    stored_frame,
    stored_frames,
)
from dicom_node.query.json_model import JsonModel, element_at, to_json_model
from dicom_node.query.stored_files import (
    StoredHeader,
    object_path,
    read_header,
    read_range,
)

__all__ = ["Retrieving", "frame_numbers"]

_OCTETS = "application/octet-stream"
_MOST_FRAMES = 1000
_PIXEL_VRS = {0x7FE00008: "OF", 0x7FE00009: "OD"}
_AVAILABLE_TRANSFER_SYNTAX = "00083002"


class Retrieving:
    """The retrieve resources of one service."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def instances(self, request: Request) -> Response:
        """Retrieve a study, a series or an instance."""
        self._service.authorise(request, Scope.READ)
        resource = resource_of(request)
        chosen = choose_objects(request, single=resource.instance is not None)
        first = self._service.first_object(resource)
        self._refuse_other_syntaxes(resource, chosen)
        if not chosen.multipart:
            return StreamingResponse(
                self._file(first, chosen),
                media_type="application/dicom",
                headers={"Content-Disposition": "attachment"},
            )
        return multipart_response(
            self._files(request, resource, chosen), "application/dicom"
        )

    def metadata(self, request: Request) -> Response:
        """Retrieve the metadata of a study, a series or an instance."""
        self._service.authorise(request, Scope.READ)
        media_type = choose_json(request)
        resource = resource_of(request)
        self._service.first_object(resource)
        return StreamingResponse(
            self._metadata(self._service.root(request), resource),
            media_type=media_type,
            headers={"Cache-Control": "no-store"},
        )

    def frames(self, request: Request) -> Response:
        """Retrieve frames of an instance."""
        self._service.authorise(request, Scope.READ)
        resource = resource_of(request)
        header = self._service.header(resource)
        numbers = frame_numbers(request, frame_count(header))
        chosen = choose_frames(
            request, header.transfer_syntax_uid, single=len(numbers) == 1
        )
        decoded = is_encapsulated(header) and bool(chosen.transfer_syntax_uid)
        syntax = chosen.transfer_syntax_uid or header.transfer_syntax_uid
        contents = (self._frame(header, number, decoded=decoded) for number in numbers)
        # The first frame is looked for while the status can still say that it is not
        # there.
        first = next(contents)
        if not chosen.multipart:
            return StreamingResponse(first, media_type=chosen.media_type)
        location = f"{self._service.url_of(request, resource)}/frames"
        parts = (
            Part(
                f"{chosen.media_type}; transfer-syntax={syntax}",
                content,
                f"{location}/{number}",
            )
            for number, content in zip(numbers, chain((first,), contents), strict=True)
        )
        return multipart_response(parts, chosen.media_type)

    def bulk_data(self, request: Request) -> Response:
        """Retrieve the value of one element that metadata name by reference."""
        self._service.authorise(request, Scope.READ)
        resource = resource_of(request)
        header = self._service.header(resource)
        path = request.path_params["path"]
        pixels = header.pixels
        if pixels is not None and path == f"{pixels.tag:08X}":
            if pixels.length is None:
                media_type = media_type_of_syntax(header.transfer_syntax_uid)
                described = (
                    f"{media_type}; transfer-syntax={header.transfer_syntax_uid}"
                )
                return multipart_response(
                    (Part(described, (frame,)) for frame in stored_frames(header)),
                    media_type,
                )
            content: Iterable[bytes] = read_range(
                header.path, pixels.position, pixels.length
            )
        else:
            value = element_at(header.dataset, path)
            if value is None:
                raise not_found("this bulk data")
            content = (value,)
        if any(
            entry.multipart and entry.media_type != "*/*"
            for entry in accepted(request)[:1]
        ):
            described = f"{_OCTETS}; transfer-syntax={EXPLICIT_LITTLE_ENDIAN}"
            return multipart_response((Part(described, content),), _OCTETS)
        return StreamingResponse(content, media_type=_OCTETS)

    # -- whole instances ---------------------------------------------------------------

    def _refuse_other_syntaxes(
        self, resource: Resource, chosen: Representation
    ) -> None:
        asked = chosen.transfer_syntax_uid
        if not asked or (asked == EXPLICIT_LITTLE_ENDIAN and self._service.renderer):
            return
        stored = {
            found.transfer_syntax_uid for found in self._service.objects(resource)
        }
        if stored - {asked}:
            raise Refused(
                406,
                f"not everything here is stored in {asked}; ask for transfer-syntax=* "
                f"(as stored) or {EXPLICIT_LITTLE_ENDIAN} (decoded)",
            )

    def _files(
        self, request: Request, resource: Resource, chosen: Representation
    ) -> Iterator[Part]:
        for found in self._service.objects(resource):
            syntax = chosen.transfer_syntax_uid or found.transfer_syntax_uid
            one = Resource(
                found.study_instance_uid,
                found.series_instance_uid,
                found.sop_instance_uid,
            )
            yield Part(
                f"application/dicom; transfer-syntax={syntax}",
                self._file(found, chosen),
                self._service.url_of(request, one),
            )

    def _file(self, found: StoredObject, chosen: Representation) -> Iterator[bytes]:
        path = object_path(self._service.store, found)
        asked = chosen.transfer_syntax_uid
        if asked and asked != found.transfer_syntax_uid:
            assert self._service.renderer is not None  # or it was refused
            return self._service.renderer.transcoded(path)
        return read_range(path, 0)

    # -- metadata ----------------------------------------------------------------------

    def _metadata(self, root: str, resource: Resource) -> Iterator[bytes]:
        opening = b"["
        for found in self._service.objects(resource):
            try:
                model = self._model(root, found)
            except InvalidInstance:
                continue  # kept, as it was acknowledged, and readable by nobody
            text = json.dumps(model, ensure_ascii=False, separators=(",", ":"))
            yield opening + text.encode("utf-8", errors="replace")
            opening = b","
        yield b"[]" if opening == b"[" else b"]"

    def _model(self, root: str, found: StoredObject) -> JsonModel:
        header = read_header(object_path(self._service.store, found))
        one = Resource(
            found.study_instance_uid, found.series_instance_uid, found.sop_instance_uid
        )
        place = f"{root}/{one.path}/bulk/"
        model = to_json_model(
            header.dataset,
            bulk_data_uri=lambda path: place + path,
            threshold=self._service.settings.bulk_data_bytes,
        )
        model[_AVAILABLE_TRANSFER_SYNTAX] = {
            "vr": "UI",
            "Value": [header.transfer_syntax_uid],
        }
        pixels = header.pixels
        if pixels is not None:
            name = f"{pixels.tag:08X}"
            model[name] = {
                "vr": _PIXEL_VRS.get(pixels.tag, pixels.vr),
                "BulkDataURI": place + name,
            }
        return model

    # -- frames ------------------------------------------------------------------------

    def _frame(
        self, header: StoredHeader, number: int, *, decoded: bool
    ) -> Iterator[bytes]:
        if not is_encapsulated(header):
            return native_frame(header, number)
        if not decoded:
            return iter((stored_frame(header, number),))
        if self._service.renderer is None:
            raise Refused(406, "frames are not decoded here; ask for transfer-syntax=*")
        return iter((self._service.renderer.decoded_frame(header, number),))


def frame_numbers(request: Request, count: int) -> list[int]:
    """Read the list of frame numbers from the path.

    Raises
    ------
    Refused
        400 if it is no such list, 404 if there is no such frame.
    """
    text = request.path_params["frames"]
    parts = text.split(",")
    if len(parts) > _MOST_FRAMES:
        raise Refused(400, f"more than {_MOST_FRAMES} frames in one request")
    if not all(part.isascii() and part.isdigit() and len(part) <= 9 for part in parts):
        raise Refused(400, "frames are named by a comma-separated list of numbers")
    numbers = [int(part) for part in parts]
    if any(not 1 <= number <= count for number in numbers):
        raise Refused(404, f"this instance has {count} frames")
    return numbers
