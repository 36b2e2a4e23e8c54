"""Pixel data to stored values, frame by frame, or to a refusal with its reason."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from core.domain import NotAnalysedReason
from core.errors import UnsupportedImage
from worker.pixels.decoders import DECODERS, decoder
from worker.pixels.limits import PixelLayout, PixelLimits, checked_layout
from worker.pixels.refusal import refused
from worker.pixels.source import open_image, transfer_syntax_uid
from worker.pixels.streams import refuse_damaged_streams

__all__ = ["iter_frames"]

Frame = npt.NDArray[Any]


def iter_frames(
    source: Path | Dataset, limits: PixelLimits | None = None
) -> Iterator[Frame]:
    """Decode an image, one frame at a time.

    Parameters
    ----------
    source
        File, or data set with file meta.
    limits
        None: the default ones.

    Yields
    ------
    (rows, columns) or (rows, columns, 3), colour by pixel: stored values with their
    sign, in this machine's byte order, unused high bits (old overlays) cleared; float
    for Float Pixel Data. YBR is RGB by now; PALETTE COLOR is still indices.

    Raises
    ------
    UnsupportedImage
        At the call for what the header already tells, at the frame for what only
        decoding tells. Nothing else is raised for an image, however broken.

    Source
    ------
    PS3.5 8 and A.4 (encapsulation), PS3.3 C.7.6.3.
    """
    limits = limits or PixelLimits()
    dataset = open_image(source, limits)
    syntax = transfer_syntax_uid(dataset)
    layout = checked_layout(dataset, limits)
    if syntax not in DECODERS:
        raise refused(
            dataset,
            NotAnalysedReason.TRANSFER_SYNTAX_UNSUPPORTED,
            f"no decoder for transfer syntax {syntax}",
        )
    _refuse_shifted_bits(dataset, layout)
    refuse_damaged_streams(dataset, layout, syntax)
    return _frames(dataset, layout, syntax)


def _refuse_shifted_bits(dataset: Dataset, layout: PixelLayout) -> None:
    """Refuse samples that do not sit in the low bits (PS3.5 8.1.1 allows no others)."""
    high_bit = dataset.get("HighBit")
    if layout.keyword != "PixelData" or high_bit is None:
        return
    if int(high_bit) != layout.bits_stored - 1:
        raise refused(
            dataset,
            NotAnalysedReason.PIXELS_INCONSISTENT,
            f"High Bit is {int(high_bit)} with {layout.bits_stored} Bits Stored, "
            "expected one less",
        )


def _frames(dataset: Dataset, layout: PixelLayout, syntax: str) -> Iterator[Frame]:
    available = decoder(syntax).available_plugins
    plugins = [name for name in DECODERS[syntax].plugins if name in available] or [""]
    done = 0
    for position, plugin in enumerate(plugins):
        try:
            for frame in _decoded(dataset, layout, syntax, (plugin, done)):
                yield _checked(dataset, layout, frame)
                done += 1
            return
        except UnsupportedImage as error:
            # Where one library gives up, another may read on; the last one decides.
            unreadable = error.reason == NotAnalysedReason.PIXELS_UNREADABLE.value
            if not unreadable or position == len(plugins) - 1:
                raise


def _decoded(
    dataset: Dataset, layout: PixelLayout, syntax: str, start: tuple[str, int]
) -> Iterator[Frame]:
    plugin, first = start
    frames = decoder(syntax).iter_array(
        dataset,
        indices=range(first, layout.frames) if first else None,
        decoding_plugin=plugin,
        allow_excess_frames=False,
    )
    for _ in range(first, layout.frames):
        # Codecs raise whatever they like on damaged streams (RuntimeError, KeyError,
        # struct.error, their own), and pydicom warns of what we check ourselves; all of
        # it means that this frame cannot be had.
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                frame, _ = next(frames)
        except StopIteration as error:
            raise refused(
                dataset,
                NotAnalysedReason.PIXELS_INCONSISTENT,
                f"has fewer frames than Number of Frames says ({layout.frames})",
            ) from error
        except MemoryError:
            raise
        except Exception as error:
            raise refused(
                dataset,
                NotAnalysedReason.PIXELS_UNREADABLE,
                f"pixel data in transfer syntax {syntax} cannot be decoded "
                f"({type(error).__name__}); the stream is damaged or not what the "
                "header says",
            ) from error
        yield frame


def _checked(dataset: Dataset, layout: PixelLayout, frame: Frame) -> Frame:
    if frame.shape != layout.frame_shape:
        raise refused(
            dataset,
            NotAnalysedReason.PIXELS_INCONSISTENT,
            f"a frame decodes to {frame.shape}, the header says {layout.frame_shape}",
        )
    if np.issubdtype(frame.dtype, np.floating) and not np.isfinite(frame).all():
        raise refused(
            dataset,
            NotAnalysedReason.PIXELS_INCONSISTENT,
            "floating point pixels are not all finite",
        )
    return frame.astype(frame.dtype.newbyteorder("="), copy=False)
