"""Images to a network's inputs, as a stream: one is ready while the next is decoded.

For whoever runs the network over several images or frames:

    with closing(iter_inputs(paths, bundle.input, limits)) as inputs:
        for one in inputs:                  # decoded and prepared in other threads
            answer = model.answer(one.values[np.newaxis])

While the loop's body computes, the next images are decoded. At most `threads` of them
are under way or wait, so memory does not grow with their number. Their order is that of
the sources. For one image, or to spread images of several studies over threads of one's
own, `read_input` does the same for a single one.
"""

import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from core.domain import ImageReference
from models.preparation import prepare
from models.specification import InputSpecification
from worker.pixels.decode import EncodedFrame, ImageFrames, open_frames
from worker.pixels.display import DisplayImage, display_frame, display_image
from worker.pixels.limits import PixelLimits
from worker.pixels.parallel import ordered_map, usable_cores

__all__ = ["PreparedInput", "iter_inputs", "read_input"]


@dataclass(frozen=True, eq=False)
class PreparedInput:
    """One image or frame as a network takes it."""

    values: npt.NDArray[np.float32]
    """(rows, columns, channels) of the model's input."""
    reference: ImageReference
    pixel_spacing_mm: tuple[float, float] | None
    """Between rows, between columns of the stored matrix; None if it does not say."""
    notes: tuple[str, ...]
    """Sentences for the reader of a report."""
    decode_s: float
    """Seconds from the file to the display image, for the stage's time; in a stream
    without opening the file."""
    prepare_s: float
    """Seconds from the display image to `values`."""


def read_input(
    source: Path | Dataset,
    specification: InputSpecification,
    limits: PixelLimits | None = None,
    *,
    frame_number: int = 1,
) -> PreparedInput:
    """Read one image, or one frame of it, as a network's input.

    Parameters
    ----------
    source
        File, or data set with file meta.
    specification
        The bundle's input.
    limits
        None: the default ones.
    frame_number
        Which frame, from 1.

    Raises
    ------
    UnsupportedImage
        With the reason, for whatever keeps the image from being read.
    """
    return _prepared(
        lambda: display_image(source, limits, frame_number=frame_number), specification
    )


def _prepared(
    decode: Callable[[], DisplayImage], specification: InputSpecification
) -> PreparedInput:
    started = time.perf_counter()
    image = decode()
    decoded = time.perf_counter()
    values = prepare(image.pixels, specification)
    return PreparedInput(
        values=values,
        reference=image.reference,
        pixel_spacing_mm=image.pixel_spacing_mm,
        notes=image.notes,
        decode_s=decoded - started,
        prepare_s=time.perf_counter() - decoded,
    )


def iter_inputs(
    sources: Iterable[Path | Dataset],
    specification: InputSpecification,
    limits: PixelLimits | None = None,
    *,
    threads: int | None = None,
) -> Generator[PreparedInput, None, None]:
    """Read images as a network's inputs, ahead of the caller.

    Parameters
    ----------
    sources
        Files or data sets; of one with several frames, every frame is an input.
    specification
        The bundle's input.
    limits
        For each image; None: the default ones.
    threads
        How many images are decoded at the same time; None: as many as there are cores.
        1 decodes in the caller's thread, when it asks.

    Yields
    ------
    Inputs in the order of the sources and of their frames.

    Raises
    ------
    UnsupportedImage
        For the first image that cannot be read, after the inputs of all before it.
        Others may be read by calling again with the sources behind it.
    """
    return ordered_map(
        lambda frame: _prepared(lambda: display_frame(*frame), specification),
        _encoded(sources, limits),
        threads=threads or usable_cores(),
    )


def _encoded(
    sources: Iterable[Path | Dataset], limits: PixelLimits | None
) -> Generator[tuple[ImageFrames, EncodedFrame], None, None]:
    for source in sources:
        frames = open_frames(source, limits)
        for encoded in frames.encoded():
            yield frames, encoded
