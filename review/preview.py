"""An image of a study as a picture for the page, decoded in a process of its own.

What peers sent is decoded by native code; if that dies, the page has no picture and
everything else goes on.
"""

import multiprocessing
import threading
from collections import OrderedDict
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from core.errors import UnsupportedImage

__all__ = ["Preview", "Previews"]

_TIMEOUT_S = 30.0
_KEPT = 48


@dataclass(frozen=True)
class Preview:
    """A picture."""

    png: bytes
    rows: int
    columns: int
    """Of the stored matrix, in whose pixels regions are given."""


class Previews:
    """Renders images, and keeps the last ones.

    Parameters
    ----------
    maximum_bytes
        Of decoded pixel data, as for the worker.
    longest_edge
        Pixels of a picture's longer side at most.
    """

    def __init__(self, maximum_bytes: int, longest_edge: int = 1100) -> None:
        self._maximum_bytes = maximum_bytes
        self._longest_edge = longest_edge
        self._kept: OrderedDict[tuple[Path, int], Preview] = OrderedDict()
        self._lock = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None

    def render(self, path: Path, frame_number: int = 1) -> Preview:
        """Render one frame.

        Raises
        ------
        UnsupportedImage
            With the reason, if it cannot be shown.
        """
        key = (path, frame_number)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            pool = self._opened_pool()
        try:
            answer = pool.submit(
                _render, path, frame_number, self._maximum_bytes, self._longest_edge
            ).result(timeout=_TIMEOUT_S)
        except (BrokenProcessPool, TimeoutError) as error:
            self.close()
            raise UnsupportedImage(
                "pixels-unreadable", "the image could not be decoded in time or at all"
            ) from error
        if isinstance(answer, tuple):
            raise UnsupportedImage(*answer)
        with self._lock:
            self._kept[key] = answer
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return answer

    def close(self) -> None:
        """End the process that decodes."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            # A decoder that hangs must not be waited for.
            for process in list((pool._processes or {}).values()):
                process.kill()
            pool.shutdown(wait=False, cancel_futures=True)

    def _opened_pool(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                max_workers=1, mp_context=multiprocessing.get_context("spawn")
            )
        return self._pool


def _render(
    path: Path, frame_number: int, maximum_bytes: int, longest_edge: int
) -> Preview | tuple[str, str]:
    """Do it; a refusal comes back as its reason and explanation."""
    import cv2  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415

    from worker.pixels.display import display_image  # noqa: PLC0415
    from worker.pixels.limits import PixelLimits  # noqa: PLC0415

    try:
        image = display_image(
            path, PixelLimits(maximum_bytes=maximum_bytes), frame_number=frame_number
        )
    except UnsupportedImage as error:
        return error.reason, str(error)
    rows, columns = image.pixels.shape
    gray: npt.NDArray[Any] = np.rint(image.pixels * 255).astype(np.uint8)
    scale = longest_edge / max(rows, columns)
    if scale < 1:
        size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
        gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    done, png = cv2.imencode(".png", gray)
    if not done:
        return "pixels-unreadable", "the picture could not be written as PNG"
    return Preview(png.tobytes(), rows, columns)
