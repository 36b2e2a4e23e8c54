"""QIDO-RS: the query string becomes a query, matches become DICOM JSON.

Source
------
PS3.18 10.6 (Search Transaction), 8.3.4 (query parameters).
"""

import json
import re
from collections.abc import Iterator
from itertools import islice

from pydicom.datadict import tag_for_keyword
from starlette.requests import Request
from starlette.responses import Response

from dicom_node.dicomweb.access import Scope
from dicom_node.dicomweb.answers import Refused
from dicom_node.dicomweb.negotiation import choose_json
from dicom_node.dicomweb.service import Resource, Service, resource_of
from dicom_node.query.attributes import (
    DEFAULT_INSTANCE,
    DEFAULT_SERIES,
    DEFAULT_STUDY,
    Level,
    Tags,
)
from dicom_node.query.json_model import JsonModel
from dicom_node.query.matching import Key, Path, compile_key
from dicom_node.query.search import Query

__all__ = ["Searching"]

_HEX_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_DEEPEST = 8
_MOST_PARAMETERS = 200
_OTHER_PARAMETERS = frozenset({"accept", "charset"})
_OF_LEVEL = {
    Level.STUDY: DEFAULT_STUDY,
    Level.SERIES: DEFAULT_SERIES,
    Level.IMAGE: DEFAULT_INSTANCE,
}


class Searching:
    """The search resources of one service."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def studies(self, request: Request) -> Response:
        """Search for studies."""
        return self._search(request, Level.STUDY)

    def series(self, request: Request) -> Response:
        """Search for series, of all studies or of one."""
        return self._search(request, Level.SERIES)

    def instances(self, request: Request) -> Response:
        """Search for instances, of everything, a study or a series."""
        return self._search(request, Level.IMAGE)

    def _search(self, request: Request, level: Level) -> Response:
        service = self._service
        service.authorise(request, Scope.READ)
        media_type = choose_json(request)
        resource = resource_of(request)
        asked = _Asked(request, level, resource, service.settings.maximum_results)
        matches = service.search.find(asked.query, asked.offset)
        # One more than is sent tells whether there are more.
        found = list(islice(matches, asked.limit + 1))
        more = len(found) > asked.limit
        headers = {"Cache-Control": "no-store"}
        if more and asked.limited_by_us:
            headers["Warning"] = (
                f'299 secondread "more than {asked.limit} results; ask for the rest '
                'with offset"'
            )
        body = [
            self._result(request, model, asked, resource)
            for model in found[: asked.limit]
        ]
        return Response(
            json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(
                "utf-8", errors="replace"
            ),
            media_type=media_type,
            headers=headers,
        )

    def _result(
        self, request: Request, model: JsonModel, asked: "_Asked", resource: Resource
    ) -> JsonModel:
        if asked.returned is None:
            picked = dict(model)
        else:
            picked = {name: model[name] for name in asked.returned if name in model}
        uids = {
            name: _uid(model, tag)
            for name, tag in (
                ("study", Tags.STUDY_INSTANCE_UID),
                ("series", Tags.SERIES_INSTANCE_UID),
                ("instance", Tags.SOP_INSTANCE_UID),
            )
        }
        if asked.query.level is not Level.IMAGE:
            uids["instance"] = None
        if asked.query.level is Level.STUDY:
            uids["series"] = None
        url = self._service.url_of(request, Resource(**uids))
        picked[f"{Tags.RETRIEVE_URL:08X}"] = {"vr": "UR", "Value": [url]}
        return dict(sorted(picked.items()))


class _Asked:
    """What a query string asks for."""

    def __init__(
        self, request: Request, level: Level, resource: Resource, maximum: int
    ) -> None:
        parameters = request.query_params.multi_items()
        if len(parameters) > _MOST_PARAMETERS:
            raise Refused(400, f"more than {_MOST_PARAMETERS} query parameters")
        self.offset = 0
        self.limit = maximum
        self._keys: list[Key] = []
        self._asked: set[int] = set()
        self._everything = False
        for name, value in parameters:
            self._take(name, value)
        keys = [*self._keys, *_of_resource(resource)]
        wanted = self._wanted(level, resource, self._asked)
        every = self._everything
        self.returned = None if every else [f"{tag:08X}" for tag in sorted(wanted)]
        self.query = Query(level, tuple(keys), None if every else frozenset(wanted))
        self.limited_by_us = self.limit == maximum

    def _take(self, name: str, value: str) -> None:
        match name.lower():
            case "limit":
                self.limit = min(self.limit, _whole_number("limit", value))
            case "offset":
                self.offset = _whole_number("offset", value)
            case "fuzzymatching":
                # It is not offered; then matching is literal (PS3.18 10.6.1.2).
                _require_boolean("fuzzymatching", value)
            case "includefield":
                self._include(value)
            case other if other in _OTHER_PARAMETERS:
                pass
            case _:
                path = _path(name)
                self._asked.add(path[0])
                key = compile_key(path, value)
                if key is not None:
                    self._keys.append(key)

    def _include(self, fields: str) -> None:
        for field in filter(None, map(str.strip, fields.split(","))):
            if field.lower() == "all":
                self._everything = True
            else:
                self._asked.add(_path(field)[0])

    @staticmethod
    def _wanted(level: Level, resource: Resource, asked: set[int]) -> set[int]:
        wanted = {*_OF_LEVEL[level], *asked, Tags.STUDY_INSTANCE_UID}
        if level is not Level.STUDY:
            wanted.add(Tags.SERIES_INSTANCE_UID)
            # PS3.18 10.6.3.3: what the path does not name is answered as well.
            if resource.study is None:
                wanted |= {*DEFAULT_STUDY}
        if level is Level.IMAGE:
            wanted |= {Tags.SOP_INSTANCE_UID, Tags.MODALITY}
            if resource.series is None:
                wanted |= {*DEFAULT_SERIES}
        return wanted


def _of_resource(resource: Resource) -> Iterator[Key]:
    for tag, uid in (
        (Tags.STUDY_INSTANCE_UID, resource.study),
        (Tags.SERIES_INSTANCE_UID, resource.series),
    ):
        if uid is not None:
            key = compile_key((tag,), uid)
            assert key is not None
            yield key


def _path(name: str) -> Path:
    """Read `00400275.00401001`, keywords or tags, outermost first."""
    parts = name.split(".")
    if len(parts) > _DEEPEST:
        raise Refused(400, "an attribute nested deeper than eight sequences")
    tags = []
    for part in parts:
        if _HEX_TAG.fullmatch(part):
            tags.append(int(part, 16))
            continue
        tag = tag_for_keyword(part)
        if tag is None:
            # The name itself may be a patient's by mistake, so it is not repeated.
            raise Refused(
                400,
                "a query parameter is neither an attribute (keyword or eight "
                "hexadecimal digits) nor limit, offset, includefield or fuzzymatching",
            )
        tags.append(int(tag))
    return tuple(tags)


def _whole_number(name: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text.strip()):
        raise Refused(400, f"{name} must be a whole number from 0 to 999999999")
    return int(text)


def _require_boolean(name: str, text: str) -> None:
    if text.strip().lower() not in ("true", "false"):
        raise Refused(400, f"{name} must be true or false")


def _uid(model: JsonModel, tag: int) -> str | None:
    values = model.get(f"{tag:08X}", {}).get("Value")
    return values[0] if values else None
