"""Multipart answers, written part by part as they are sent."""

import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from starlette.responses import StreamingResponse

__all__ = ["Part", "multipart_response"]


@dataclass(frozen=True)
class Part:
    """One part: its headers and where its bytes come from."""

    media_type: str
    """With its parameters."""
    content: Iterable[bytes]
    location: str = ""
    length: int | None = None


def multipart_response(parts: Iterable[Part], media_type: str) -> StreamingResponse:
    """Answer with a multipart message; nothing of it is built up in memory.

    Parameters
    ----------
    parts
        Asked for one after the other, while the answer is sent.
    media_type
        Of the parts, without parameters.

    Source
    ------
    PS3.18 8.6.1.2; RFC 2387.
    """
    boundary = secrets.token_hex(16)
    return StreamingResponse(
        _message(parts, boundary),
        media_type=f'multipart/related; type="{media_type}"; boundary={boundary}',
    )


def _message(parts: Iterable[Part], boundary: str) -> Iterator[bytes]:
    for part in parts:
        lines = [f"--{boundary}", f"Content-Type: {part.media_type}"]
        if part.location:
            lines.append(f"Content-Location: {part.location}")
        if part.length is not None:
            lines.append(f"Content-Length: {part.length}")
        yield ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")
        yield from part.content
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode("ascii")
