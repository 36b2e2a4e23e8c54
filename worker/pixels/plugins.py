"""One frame through pydicom's decoding plug-ins."""

from contextlib import nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from worker.pixels.bitstream import FrameHeader
from worker.pixels.decoders import PLUGIN_NAME, decoder
from worker.pixels.imagecodecs_plugin import THREADS_OPTION
from worker.pixels.limits import PixelLayout
from worker.pixels.quiet import quiet
from worker.pixels.streams import Stream

__all__ = ["compressed_frame", "native_frame_by_pydicom"]

Frame = npt.NDArray[Any]

_ITEM = b"\xfe\xff\x00\xe0"
_NO_OFFSETS = _ITEM + bytes(4)


def compressed_frame(
    stream: Stream,
    dataset: Dataset,
    layout: PixelLayout,
    *,
    syntax: str,
    plugin: str,
    codec_threads: int,
) -> Frame:
    """Decode one compressed frame with one plug-in.

    Parameters
    ----------
    plugin
        Its name at pydicom.
    codec_threads
        Threads that the codec itself may use for the frame.

    Returns
    -------
    (rows, columns) or (rows, columns, samples), free to be changed; YBR is RGB by now.

    Raises
    ------
    Exception
        Whatever the codec raises for a stream that it cannot read.

    Source
    ------
    PS3.5 A.4 (items).
    """
    options = _options(dataset, layout, stream.header)
    # The others hold the interpreter's lock anyway, and may warn.
    silent = plugin == PLUGIN_NAME
    if silent:
        options[THREADS_OPTION] = codec_threads
    length = len(stream.data).to_bytes(4, "little")
    items = b"".join((_NO_OFFSETS, _ITEM, length, stream.data))
    frames = decoder(syntax).iter_array(
        items, decoding_plugin=plugin, validate=False, **options
    )
    with nullcontext() if silent else quiet():
        frame, _ = next(frames)
    return np.asarray(frame)


def native_frame_by_pydicom(
    pixels: bytes | Dataset,
    dataset: Dataset,
    layout: PixelLayout,
    *,
    syntax: str,
    number: int,
) -> Frame:
    """Let pydicom read one frame of native pixels that is no plain array of samples.

    Parameters
    ----------
    pixels
        The frame's own bytes, or a data set with all of them.
    number
        Of the frame in `pixels`, from 1.
    """
    options = {} if isinstance(pixels, Dataset) else _options(dataset, layout, None)
    with quiet():
        frame, _ = decoder(syntax).as_array(pixels, index=number - 1, **options)
    return np.asarray(frame)


def _options(
    dataset: Dataset, layout: PixelLayout, header: FrameHeader | None
) -> dict[str, Any]:
    """Tell pydicom of one frame what it would read from a data set."""
    options: dict[str, Any] = {
        "rows": layout.rows,
        "columns": layout.columns,
        "number_of_frames": 1,
        "samples_per_pixel": layout.samples,
        "bits_allocated": layout.bits_allocated,
        "bits_stored": layout.bits_stored,
        "pixel_representation": int(layout.signed),
        "photometric_interpretation": _stored_colours(layout, header),
        "pixel_keyword": layout.keyword,
        "pixel_vr": dataset[layout.keyword].VR,
    }
    if layout.samples > 1:
        planar = dataset.get("PlanarConfiguration")
        options["planar_configuration"] = planar if planar in (0, 1) else 0
    return options


def _stored_colours(layout: PixelLayout, header: FrameHeader | None) -> str:
    """Prefer what a JPEG stream says of its colours to what the header says.

    pydicom does so, too, but warns; a thread could not ignore that (see `quiet`).
    """
    stated = layout.photometric_interpretation
    if layout.samples != 3 or header is None or header.ycbcr is None:
        return stated
    if not header.ycbcr:
        return "RGB" if header.rgb_components else stated
    return stated if "YBR" in stated else "YBR_FULL"
