"""How large an image may become, checked from its header before any allocation."""

from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset

from core.domain import NotAnalysedReason
from worker.pixels.refusal import refused

__all__ = ["PixelLayout", "PixelLimits", "checked_layout"]

PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


@dataclass(frozen=True)
class PixelLimits:
    """What one image may cost."""

    maximum_bytes: int = 2 * 2**30
    """Of all decoded frames together, and of the file that holds them."""
    maximum_frames: int = 20_000
    """More than any enhanced volume has; each frame costs its own bookkeeping."""


@dataclass(frozen=True)
class PixelLayout:
    """The shape of an image as its header tells it (PS3.3 C.7.6.3)."""

    keyword: str
    """`PixelData`, `FloatPixelData` or `DoubleFloatPixelData`."""
    rows: int
    columns: int
    frames: int
    samples: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    photometric_interpretation: str

    @property
    def decoded_bytes(self) -> int:
        """Bytes of all frames once decoded; single bits are unpacked to bytes."""
        sample_bytes = (self.bits_allocated + 7) // 8
        return self.rows * self.columns * self.frames * self.samples * sample_bytes

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """(rows, columns) or (rows, columns, samples)."""
        shape = (self.rows, self.columns)
        return shape if self.samples == 1 else (*shape, self.samples)


def checked_layout(
    dataset: Dataset, limits: PixelLimits, *, header_only: bool = False
) -> PixelLayout:
    """Read an image's layout and hold it against the limits.

    Parameters
    ----------
    header_only
        The data set was read without its pixels, so their absence proves nothing.

    Raises
    ------
    UnsupportedImage
        `pixels-missing` without pixels, `pixels-inconsistent` where the header does not
        describe any, `pixels-too-large` beyond a limit.

    Source
    ------
    PS3.3 C.7.6.3 (Image Pixel), C.7.6.24 and C.7.6.25 (Float and Double Float).
    """
    layout = _layout(dataset, header_only=header_only)
    if layout.frames > limits.maximum_frames:
        raise refused(
            dataset,
            NotAnalysedReason.PIXELS_TOO_LARGE,
            f"{layout.frames} frames, at most {limits.maximum_frames} are read",
        )
    if layout.decoded_bytes > limits.maximum_bytes:
        raise refused(
            dataset,
            NotAnalysedReason.PIXELS_TOO_LARGE,
            f"{layout.rows} x {layout.columns} x {layout.frames} frames x "
            f"{layout.samples} samples would need {layout.decoded_bytes} bytes, "
            f"at most {limits.maximum_bytes} are given",
        )
    return layout


def _layout(dataset: Dataset, *, header_only: bool) -> PixelLayout:
    keywords = [keyword for keyword in PIXEL_KEYWORDS if keyword in dataset]
    if not keywords and header_only:
        keywords = ["PixelData"]
    if not keywords:
        raise refused(
            dataset, NotAnalysedReason.PIXELS_MISSING, "has no pixel data element"
        )
    if len(keywords) > 1:
        # PS3.5 8: one and only one of them.
        raise refused(
            dataset,
            NotAnalysedReason.PIXELS_INCONSISTENT,
            f"has {' and '.join(keywords)}, only one of them is allowed",
        )
    floating = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}.get(keywords[0])
    bits_allocated = floating or _number(dataset, "BitsAllocated", 1, 64)
    return PixelLayout(
        keyword=keywords[0],
        rows=_number(dataset, "Rows", 1, 2**16 - 1),
        columns=_number(dataset, "Columns", 1, 2**16 - 1),
        frames=_frames(dataset),
        samples=_number(dataset, "SamplesPerPixel", 1, 4),
        bits_allocated=bits_allocated,
        bits_stored=floating or _number(dataset, "BitsStored", 1, bits_allocated),
        signed=not floating and _number(dataset, "PixelRepresentation", 0, 1) == 1,
        photometric_interpretation=_photometric(dataset),
    )


def _frames(dataset: Dataset) -> int:
    if _value(dataset, "NumberOfFrames") is None:
        return 1
    return _number(dataset, "NumberOfFrames", 1, 2**31 - 1)


def _photometric(dataset: Dataset) -> str:
    text = str(_value(dataset, "PhotometricInterpretation") or "").strip()
    if not text:
        raise refused(
            dataset,
            NotAnalysedReason.PHOTOMETRIC_UNSUPPORTED,
            "has no Photometric Interpretation (0028,0004)",
        )
    return text


def _number(dataset: Dataset, keyword: str, least: int, most: int) -> int:
    value = _value(dataset, keyword)
    try:
        number = int(value)
    except (TypeError, ValueError) as error:
        raise refused(
            dataset,
            NotAnalysedReason.PIXELS_INCONSISTENT,
            f"{keyword} is missing or no number",
        ) from error
    if not least <= number <= most:
        raise refused(
            dataset,
            NotAnalysedReason.PIXELS_INCONSISTENT,
            f"{keyword} is {number}, expected {least} to {most}",
        )
    return number


def _value(dataset: Dataset, keyword: str) -> Any:
    # pydicom parses a value when it is first asked for, and what it raises on a damaged
    # one depends on the VR.
    try:
        value = dataset.get(keyword)
    except Exception as error:
        raise refused(
            dataset,
            NotAnalysedReason.PIXELS_INCONSISTENT,
            f"{keyword} cannot be parsed",
        ) from error
    return None if value == "" else value
