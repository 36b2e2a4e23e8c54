"""One line a request, without a query string: that is where patients' names are."""

import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.log import get_log

__all__ = ["AccessLog"]

# Everything else in a path is a UID, a number, or whatever a client made up.
_WORDS = frozenset(
    {
        "dicom-web", "studies", "series", "instances", "metadata", "frames", "bulk",
        "rendered", "thumbnail", "healthz",
    }
)  # fmt: skip
_LONGEST_METHOD = 16


class AccessLog:
    """ASGI middleware that logs how each request was answered."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        answered: dict[str, Any] = {"status": 0, "bytes": 0}

        async def count(message: Message) -> None:
            if message["type"] == "http.response.start":
                answered["status"] = message["status"]
            elif message["type"] == "http.response.body":
                answered["bytes"] += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, count)
        finally:
            client = scope.get("client") or ("",)
            get_log().info(
                "web_request",
                action=_action(scope),
                status=answered["status"],
                bytes=answered["bytes"],
                duration_s=round(time.monotonic() - began, 3),
                peer_address=client[0],
            )


def _action(scope: Scope) -> str:
    parts = (
        part if part in _WORDS else "*" for part in scope["path"].split("/") if part
    )
    return f"{scope['method'][:_LONGEST_METHOD]} /{'/'.join(parts)}"
