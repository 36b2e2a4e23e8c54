"""The far end of a renderer's line: orders from standard input, pictures back.

An order is one line of JSON; an answer is one line of JSON that says how many bytes
follow, and these. A decoder that dies takes this process with it and nothing else.
"""

import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

from core.errors import SecondreadError
from dicom_node.guards.quiet import quiet_pynetdicom
from worker.rendering import Look, decoded_frame, picture

__all__ = ["main"]

# A frame is at most a GiB decoded; floats and pictures of it come to that.
_ADDRESS_SPACE_BYTES = 8 * 2**30


def main() -> None:
    """Serve until the parent closes the line."""
    answers = os.fdopen(os.dup(1), "wb")
    # Whatever a library prints must not get between the answers.
    os.dup2(2, 1)
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE_BYTES,) * 2)
    quiet_pynetdicom()
    for line in sys.stdin.buffer:
        answer, content = _serve(json.loads(line))
        answers.write(json.dumps(answer).encode() + b"\n" + content)
        answers.flush()


def _serve(order: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    try:
        content = _content(order)
    except SecondreadError as error:
        return {"error": str(error), "bytes": 0}, b""
    except Exception as error:  # noqa: BLE001 - whatever it is, it is about this image
        return {"error": f"cannot be decoded ({type(error).__name__})", "bytes": 0}, b""
    return {"bytes": len(content)}, content


def _content(order: dict[str, Any]) -> bytes:
    path, number = Path(order["path"]), int(order["frame"])
    if order["action"] == "frame":
        return decoded_frame(path, number)
    window, size = order.get("window"), order.get("size")
    look = Look(
        media_type=order["media_type"],
        window=tuple(window) if window else None,
        size=tuple(size) if size else None,
        quality=order["quality"],
    )
    return picture(path, number, look)


if __name__ == "__main__":
    main()
