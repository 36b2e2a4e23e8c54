"""STOW-RS: reports to a DICOMweb origin server, one object a request.

One object a request, over one kept connection: an HTTP status then belongs to one
report, and a server that dislikes one of them cannot take the others with it. An object
goes from its file to the connection in pieces, whatever its size.
"""

import json
import ssl
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from core.errors import InvalidSettings
from dicom_node.senders.sender import (
    BREAKS_BEFORE_GIVING_UP,
    Answer,
    Outcome,
    OutgoingReport,
    answer_for_status,
)
from dicom_node.tls import ClientTls

__all__ = ["StowSender"]

_CHUNK_BYTES = 65536
# A report of what happened is short; a server that sends more is not read on.
_LONGEST_ANSWER = 1 << 20

_REFERENCED = "00081199"
_FAILED = "00081198"
_FAILURE_REASON = "00081197"
_WARNING_REASON = "00081196"

# PS3.18 Table 10.5.3-1 and RFC 9110. Not listed: refused if 4xx, `later` otherwise.
_HTTP_WORDS = {
    400: (Outcome.REFUSED, "bad request"),
    401: (Outcome.UNAVAILABLE, "the bearer token is missing or no longer valid"),
    403: (Outcome.UNAVAILABLE, "not allowed; check the bearer token and its rights"),
    404: (Outcome.REFUSED, "no such service; check the destination's url"),
    408: (Outcome.UNAVAILABLE, "request timed out"),
    409: (Outcome.REFUSED, "conflict"),
    413: (Outcome.REFUSED, "too large"),
    415: (Outcome.REFUSED, "media type not supported"),
    425: (Outcome.UNAVAILABLE, "too early"),
    429: (Outcome.UNAVAILABLE, "too many requests"),
    503: (Outcome.UNAVAILABLE, "busy"),
}
# Failure Reasons that servers use for an object that they have already.
_ALREADY_THERE = frozenset({0x0111, 0xB00E})


class StowSender:
    """Sends reports to one STOW-RS destination.

    Parameters
    ----------
    url
        DICOMweb base URL; `/studies` is appended.
    bearer_token_file
        Read before each round, so that a token may be replaced. Only its owner may
        have rights on it.
    timeout_s
        Longest silence of the server.
    tls
        Certificates for https; None: those of this system.
    keep_open_s
        How long the connection stays open without work, for the next round.
    clock
        Seconds, monotonic.
    """

    def __init__(
        self,
        url: str,
        *,
        bearer_token_file: Path | None = None,
        timeout_s: float = 30.0,
        tls: ClientTls | None = None,
        keep_open_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = f"{url.rstrip('/')}/studies"
        self._bearer_token_file = bearer_token_file
        self._timeout_s = timeout_s
        self._tls = tls or ClientTls()
        self._keep_open_s = keep_open_s
        self._clock = clock
        self._client: httpx.Client | None = None
        self._context: ssl.SSLContext | None = None
        self._rested_at = 0.0
        self._is_proven = True

    def send(self, reports: Sequence[OutgoingReport]) -> Iterator[Answer]:
        """Send reports one after another, as `Sender.send` promises."""
        headers = self._headers()
        if isinstance(headers, Answer):
            yield from (headers for _ in reports)
            return
        try:
            client = self._open()
        except InvalidSettings as error:
            yield from (Answer(Outcome.UNAVAILABLE, str(error)) for _ in reports)
            return
        answer, breaks = Answer(Outcome.UNAVAILABLE, "not tried"), 0
        try:
            for report in reports:
                if breaks < BREAKS_BEFORE_GIVING_UP:
                    answer, answered = self._send_one(client, report, headers)
                    if not (answered or self._is_proven):
                        # It was kept open, and died unnoticed: no failure of this one.
                        answer, answered = self._send_one(client, report, headers)
                    self._is_proven = True
                    breaks = 0 if answered else breaks + 1
                yield answer
        finally:
            self._rested_at = self._clock()
            self._is_proven = False
            if self._keep_open_s <= 0:
                self.close()

    def rest(self) -> None:
        """Close the connection once it has been without work for long enough."""
        if self._clock() - self._rested_at >= self._keep_open_s:
            self.close()

    def close(self) -> None:
        """Close the connection."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _open(self) -> httpx.Client:
        # httpx looks itself whether a kept connection is still there.
        context = self._tls.context()
        if self._client is None or context is not self._context:
            self.close()
            self._is_proven = True
            # No proxies from the environment: reports go where the settings say. The
            # system's certificates count if no others are named, because a hospital
            # has its own authority there.
            self._client = httpx.Client(
                timeout=self._timeout_s,
                follow_redirects=False,
                trust_env=False,
                verify=context,
                limits=httpx.Limits(
                    max_connections=1, keepalive_expiry=self._keep_open_s or None
                ),
            )
            self._context = context
        return self._client

    def _headers(self) -> dict[str, str] | Answer:
        headers = {"Accept": "application/dicom+json"}
        path = self._bearer_token_file
        if path is None:
            return headers
        try:
            mode = path.stat().st_mode
            token = path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            return Answer(
                Outcome.UNAVAILABLE,
                f"the bearer token cannot be read ({type(error).__name__})",
            )
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            return Answer(
                Outcome.UNAVAILABLE,
                "the bearer token's file is open to others; set its mode to 600",
            )
        if not token or not token.isprintable() or " " in token:
            return Answer(Outcome.UNAVAILABLE, "the bearer token's file holds no token")
        return headers | {"Authorization": f"Bearer {token}"}

    def _send_one(
        self, client: httpx.Client, report: OutgoingReport, headers: dict[str, str]
    ) -> tuple[Answer, bool]:
        """Send one report; return the answer and whether the server gave it."""
        boundary = uuid4().hex
        content_type = (
            f'multipart/related; type="application/dicom"; boundary={boundary}'
        )
        try:
            with client.stream(
                "POST",
                self._url,
                content=_multipart(report.path, boundary),
                headers=headers | {"Content-Type": content_type},
            ) as response:
                body = _read_limited(response)
        except httpx.HTTPError as error:
            words = f"no answer ({type(error).__name__})"
            return Answer(Outcome.UNAVAILABLE, words), False
        except httpx.InvalidURL:
            words = "the destination's url cannot be used"
            return Answer(Outcome.REFUSED, words), False
        except OSError as error:
            words = f"cannot be read: {error.strerror}"
            return Answer(Outcome.UNAVAILABLE, words), True
        return _answer_for_response(response.status_code, body), True


def _multipart(path: Path, boundary: str) -> Iterator[bytes]:
    """Yield the one part of a request body (PS3.18 8.6.1.2.1, 10.5.1)."""
    yield f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode("ascii")
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
    yield f"\r\n--{boundary}--\r\n".encode("ascii")


def _read_limited(response: httpx.Response) -> bytes:
    body = bytearray()
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > _LONGEST_ANSWER:
            break
    return bytes(body[:_LONGEST_ANSWER])


def _answer_for_response(status: int, body: bytes) -> Answer:
    """Translate a response; what it says of the instance counts before its status."""
    store = _json_object(body)
    failure = _code_in(store, _FAILED, _FAILURE_REASON)
    if failure in _ALREADY_THERE:
        return Answer(
            Outcome.ACCEPTED, f"HTTP {status} warning: it already has this object"
        )
    if failure is not None and status in (200, 202, 409):
        found = answer_for_status(failure)
        if found.outcome is Outcome.ACCEPTED:  # a warning code among the failures
            found = Answer(Outcome.REFUSED, found.words)
        return Answer(found.outcome, f"HTTP {status}: {found.words}")
    if status == 202:
        warning = _code_in(store, _REFERENCED, _WARNING_REASON)
        told = f": {warning:04X}" if warning is not None else ""
        return Answer(Outcome.ACCEPTED, f"HTTP 202 stored with a warning{told}")
    if status in (200, 201, 204):
        return Answer(Outcome.ACCEPTED, f"HTTP {status} stored")
    if 300 <= status < 400:
        return Answer(
            Outcome.REFUSED,
            f"HTTP {status}: redirects are not followed; put the final address into "
            "the destination's url",
        )
    outcome, words = _HTTP_WORDS.get(
        status,
        (Outcome.REFUSED, "failure")
        if 400 <= status < 500
        else (Outcome.UNAVAILABLE, "server error"),
    )
    return Answer(outcome, f"HTTP {status} {words}")


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    if isinstance(found, list) and found:
        found = found[0]
    return found if isinstance(found, dict) else {}


def _code_in(store: dict[str, Any], sequence: str, attribute: str) -> int | None:
    """Return a status code of the first item of a sequence (DICOM JSON, PS3.18 F)."""
    try:
        item = store[sequence]["Value"][0]
        return int(item[attribute]["Value"][0])
    except (KeyError, IndexError, TypeError, ValueError):
        # A failed item without a reason is a failure all the same.
        failed = sequence == _FAILED and bool(_items(store.get(sequence)))
        return 0x0110 if failed else None


def _items(element: object) -> object:
    return element.get("Value") if isinstance(element, dict) else None
