"""Pixel data to stored values, frame by frame, or to a refusal with its reason.

`open_frames` looks at the header; `ImageFrames.encoded` takes frames out of the file in
the order they lie there, without decoding them; `ImageFrames.decode` decodes one, in
any thread. No more of the file is in memory than the frames under way.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import uid
from pydicom.dataset import Dataset

from core.domain import NotAnalysedReason
from core.errors import UnsupportedImage
from worker.pixels.decoders import DECODERS, installed_plugins
from worker.pixels.limits import PixelLayout, PixelLimits, checked_layout
from worker.pixels.native import native_frame, refuse_short_pixels
from worker.pixels.parallel import ordered_map, usable_cores
from worker.pixels.plugins import compressed_frame
from worker.pixels.refusal import refused
from worker.pixels.source import open_image, transfer_syntax_uid
from worker.pixels.streams import Stream, iter_streams

__all__ = ["EncodedFrame", "ImageFrames", "iter_frames", "open_frames"]

Frame = npt.NDArray[Any]
EncodedFrame = Stream | int
"""A compressed frame, or the number of a native one."""


@dataclass(frozen=True, eq=False)
class ImageFrames:
    """An image whose header was found to describe pixels that can be decoded."""

    image: Dataset
    layout: PixelLayout
    transfer_syntax_uid: str

    @property
    def parallel(self) -> bool:
        """Whether more threads decode more frames."""
        return DECODERS[self.transfer_syntax_uid].parallel

    def encoded(self, numbers: Sequence[int] | None = None) -> Iterator[EncodedFrame]:
        """Take frames out of the file; for one thread at a time.

        Parameters
        ----------
        numbers
            Which, from 1, ascending; None: all.

        Raises
        ------
        UnsupportedImage
            At a compressed frame that is not there, is cut off or has another size than
            the header says.
        """
        if numbers is None:
            numbers = range(1, self.layout.frames + 1)
        if not uid.UID(self.transfer_syntax_uid).is_encapsulated:
            return iter(numbers)
        return iter_streams(self.image, self.layout, self.transfer_syntax_uid, numbers)

    def decode(self, frame: EncodedFrame, *, codec_threads: int = 1) -> Frame:
        """Decode one frame; for any thread.

        Parameters
        ----------
        frame
            From `encoded`.
        codec_threads
            Threads that a codec itself may use: more than 1 for a frame on its own.

        Returns
        -------
        As `iter_frames` yields.

        Raises
        ------
        UnsupportedImage
            `pixels-unreadable` if no decoder reads it, `pixels-inconsistent` if it is
            not what the header says.
        """
        if isinstance(frame, int):
            return self._checked(self._native(frame))
        # Where one library gives up, another may read on; the last one decides.
        *others, last = installed_plugins(self.transfer_syntax_uid)
        for plugin in others:
            try:
                return self._checked(self._compressed(frame, plugin, codec_threads))
            except UnsupportedImage as error:
                if error.reason != NotAnalysedReason.PIXELS_UNREADABLE.value:
                    raise
        return self._checked(self._compressed(frame, last, codec_threads))

    def _native(self, number: int) -> Frame:
        try:
            return native_frame(
                self.image, self.layout, self.transfer_syntax_uid, number
            )
        except MemoryError:
            raise
        except Exception as error:
            raise self._unreadable(error) from error

    def _compressed(self, stream: Stream, plugin: str, codec_threads: int) -> Frame:
        # Codecs raise whatever they like on damaged streams: RuntimeError, KeyError,
        # struct.error, their own, those in Rust (a panic) not even an Exception. All of
        # it means that this frame cannot be had.
        try:
            return compressed_frame(
                stream,
                self.image,
                self.layout,
                syntax=self.transfer_syntax_uid,
                plugin=plugin,
                codec_threads=codec_threads,
            )
        except (MemoryError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: BaseException) -> UnsupportedImage:
        return refused(
            self.image,
            NotAnalysedReason.PIXELS_UNREADABLE,
            f"pixel data in transfer syntax {self.transfer_syntax_uid} cannot be "
            f"decoded ({type(error).__name__}); the stream is damaged or not what the "
            "header says",
        )

    def _checked(self, frame: Frame) -> Frame:
        if frame.shape != self.layout.frame_shape:
            raise refused(
                self.image,
                NotAnalysedReason.PIXELS_INCONSISTENT,
                f"a frame decodes to {frame.shape}, the header says "
                f"{self.layout.frame_shape}",
            )
        if np.issubdtype(frame.dtype, np.floating) and not np.isfinite(frame).all():
            raise refused(
                self.image,
                NotAnalysedReason.PIXELS_INCONSISTENT,
                "floating point pixels are not all finite",
            )
        return frame.astype(frame.dtype.newbyteorder("="), copy=False)


def open_frames(
    source: Path | Dataset, limits: PixelLimits | None = None
) -> ImageFrames:
    """Open an image and check what its header says of the pixels.

    Parameters
    ----------
    source
        File, or data set with file meta.
    limits
        None: the default ones.

    Raises
    ------
    UnsupportedImage
        For all that the header and the size of the pixel data already tell.

    Source
    ------
    PS3.5 8 and A.4 (encapsulation), PS3.3 C.7.6.3.
    """
    limits = limits or PixelLimits()
    dataset = open_image(source, limits)
    syntax = transfer_syntax_uid(dataset)
    layout = checked_layout(dataset, limits)
    native = syntax in DECODERS and not uid.UID(syntax).is_encapsulated
    if not native and (syntax not in DECODERS or not installed_plugins(syntax)):
        raise refused(
            dataset,
            NotAnalysedReason.TRANSFER_SYNTAX_UNSUPPORTED,
            f"no decoder for transfer syntax {syntax}",
        )
    _refuse_shifted_bits(dataset, layout)
    if native:
        refuse_short_pixels(dataset, layout)
    return ImageFrames(dataset, layout, syntax)


def iter_frames(
    source: Path | Dataset,
    limits: PixelLimits | None = None,
    *,
    threads: int | None = None,
) -> Generator[Frame, None, None]:
    """Decode an image, one frame at a time.

    Parameters
    ----------
    source
        File, or data set with file meta.
    limits
        None: the default ones.
    threads
        How many frames are decoded at the same time, where that gains anything; None:
        as many as there are cores.

    Yields
    ------
    (rows, columns) or (rows, columns, 3), colour by pixel: stored values with their
    sign, in this machine's byte order, unused high bits (old overlays) cleared; float
    for Float Pixel Data. YBR is RGB by now; PALETTE COLOR is still indices. Frames of a
    file may be views of it, and read-only.

    Raises
    ------
    UnsupportedImage
        At the call for what the header already tells, at the first frame that cannot be
        had for what only its bytes tell. Nothing else is raised for an image, however
        broken.

    Source
    ------
    PS3.5 8 and A.4 (encapsulation), PS3.3 C.7.6.3.
    """
    frames = open_frames(source, limits)
    wanted = usable_cores() if threads is None else threads
    several = frames.parallel and frames.layout.frames > 1
    return ordered_map(
        lambda frame: frames.decode(frame, codec_threads=1 if several else wanted),
        frames.encoded(),
        threads=wanted if several else 1,
    )


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
