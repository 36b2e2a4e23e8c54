"""STOW-RS: a request body into the receiver, its outcomes as a response.

Source
------
PS3.18 10.5 (Store Transaction) and Annex I (Store Instances Response Module).
"""

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from core.uids import is_valid_uid
from dicom_node.dicomweb.access import Scope
from dicom_node.dicomweb.answers import RETRY_AFTER, Refused
from dicom_node.dicomweb.intake import (
    Intake,
    Limits,
    MultipartIntake,
    Outcome,
    SingleIntake,
)
from dicom_node.dicomweb.negotiation import choose_json, parse_content_type
from dicom_node.dicomweb.service import Resource, Service, resource_of
from dicom_node.file_meta import FileMeta
from dicom_node.receive import Receiver
from dicom_node.statuses import StorageOutcome

__all__ = ["Storing"]

# So much is gathered before a thread writes it; uvicorn hands over 64 KiB at most.
_BATCH_BYTES = 1 << 19
_RETRIEVE_URL, _FAILED, _REFERENCED, _OTHER = (
    "00081190", "00081198", "00081199", "0008119A",
)  # fmt: skip
_CLASS, _INSTANCE, _REASON = "00081150", "00081155", "00081197"
_LONGEST_AE_TITLE = 16


class Storing:
    """The store resources of one service."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def store(self, request: Request) -> Response:
        """Store instances; of one study only where the path names it.

        Raises
        ------
        Refused
            For everything but the outcomes of instances.
        """
        client = await run_in_threadpool(self._service.authorise, request, Scope.STORE)
        receiver = self._service.receiver
        if receiver is None:
            raise Refused(501, "this address does not take instances in")
        media_type = choose_json(request)
        resource = resource_of(request)
        if not receiver.free_space.enough():
            raise Refused(
                503, "free space is below the low-water mark", headers=RETRY_AFTER
            )
        intake = self._intake(request, receiver, resource, client)
        try:
            await self._take_in(request, intake)
        finally:
            # Whatever ended the request: nothing half received stays.
            with anyio.CancelScope(shield=True):
                await run_in_threadpool(intake.abandon)
        return self._answer(request, resource, intake.outcomes, media_type)

    def _intake(
        self, request: Request, receiver: Receiver, resource: Resource, client: str
    ) -> Intake:
        node = self._service.node
        begin = partial(receiver.begin, study_instance_uid=resource.study or "")
        limits = Limits(node.maximum_instance_bytes, node.private_storage_sop_classes)
        template = FileMeta(
            sop_class_uid="",
            sop_instance_uid="",
            transfer_syntax_uid="",
            calling_ae_title=client[:_LONGEST_AE_TITLE],
            called_ae_title=node.ae_title,
            peer_address=request.client.host if request.client else "",
        )
        if request.headers.get("content-encoding", "identity") != "identity":
            # A few kilobytes may become gigabytes.
            raise Refused(415, "bodies are not taken compressed (Content-Encoding)")
        kind, parameters = parse_content_type(request.headers.get("content-type", ""))
        if kind == "application/dicom":
            return SingleIntake(begin, limits, template)
        part_type = parameters.get("type", "application/dicom").lower()
        if kind != "multipart/related" or part_type != "application/dicom":
            raise Refused(
                415,
                'instances are taken as multipart/related; type="application/dicom"; '
                "boundary=…, or one as application/dicom",
            )
        boundary = parameters.get("boundary", "")
        if not boundary:
            raise Refused(400, "the Content-Type names no boundary")
        return MultipartIntake(boundary, begin, limits, template)

    async def _take_in(self, request: Request, intake: Intake) -> None:
        timeout_s = self._service.settings.timeout_s
        batch = bytearray()
        more = True
        while more:
            try:
                with anyio.fail_after(timeout_s):
                    message = await request.receive()
            except TimeoutError:
                raise Refused(
                    408,
                    f"no bytes for {timeout_s:g} s; {len(intake.outcomes)} whole "
                    "instances were taken",
                    headers={"Connection": "close"},
                ) from None
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            batch += message.get("body", b"")
            more = message.get("more_body", False)
            if batch and (not more or len(batch) >= _BATCH_BYTES):
                await run_in_threadpool(intake.feed, bytes(batch))
                batch.clear()
        await run_in_threadpool(intake.finish)

    def _answer(
        self,
        request: Request,
        resource: Resource,
        outcomes: Sequence[Outcome],
        media_type: str,
    ) -> Response:
        if not outcomes:
            raise Refused(400, "there is no instance in this body")
        failed = [one for one in outcomes if _failed(one)]
        body = self._response_module(request, resource, outcomes)
        headers = {}
        if failed:
            comment = failed[0].answer.error_comment or "see FailureReason"
            headers["Warning"] = f'299 secondread "{comment}"'
        status = _status(outcomes, failed)
        if status == 503:
            headers |= RETRY_AFTER
        return Response(
            json.dumps(body, separators=(",", ":")),
            status_code=status,
            media_type=media_type,
            headers=headers,
        )

    def _response_module(
        self, request: Request, resource: Resource, outcomes: Sequence[Outcome]
    ) -> dict[str, Any]:
        module: dict[str, Any] = {}
        if resource.study is not None:
            url = self._service.url_of(request, resource)
            module[_RETRIEVE_URL] = {"vr": "UR", "Value": [url]}
        stored = [_reference(one) for one in outcomes if not _failed(one)]
        # A UID that breaks the rules is not said back.
        named = [one for one in outcomes if _failed(one) and _is_named(one)]
        other = [one for one in outcomes if _failed(one) and not _is_named(one)]
        for tag, items in (
            (_REFERENCED, stored),
            (_FAILED, [{**_reference(one), **_reason(one)} for one in named]),
            (_OTHER, [_reason(one) for one in other]),
        ):
            if items:
                module[tag] = {"vr": "SQ", "Value": items}
        return module


def _failed(outcome: Outcome) -> bool:
    return outcome.answer.outcome is StorageOutcome.REFUSED


def _is_named(outcome: Outcome) -> bool:
    return is_valid_uid(outcome.sop_class_uid) and is_valid_uid(
        outcome.sop_instance_uid
    )


def _status(outcomes: Sequence[Outcome], failed: Sequence[Outcome]) -> int:
    """Return the status, PS3.18 Table 10.5.3-1."""
    if not failed:
        return 200
    if len(failed) < len(outcomes):
        return 202
    # PS3.4 Table B.2-1: A7xx is out of resources, which trying again may change.
    out_of_resources = all(one.answer.status >> 8 == 0xA7 for one in failed)
    return 503 if out_of_resources else 409


def _reference(outcome: Outcome) -> dict[str, Any]:
    return {
        _CLASS: {"vr": "UI", "Value": [outcome.sop_class_uid]},
        _INSTANCE: {"vr": "UI", "Value": [outcome.sop_instance_uid]},
    }


def _reason(outcome: Outcome) -> dict[str, Any]:
    return {_REASON: {"vr": "US", "Value": [outcome.answer.status]}}
