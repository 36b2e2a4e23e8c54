"""Golden cases: pictures whose answer is kept, so that a changed engine is noticed.

They are made from formulas, not from patients, and say nothing about accuracy. Each
holds a display image, the network input made of it and the logits that the network gave
when it was packed: a new OpenCV, Keras or processor that shifts either step is caught
before the model answers for anybody.
"""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from core.errors import InvalidBundle

__all__ = ["GOLDEN_NAME", "GoldenCases", "golden_images", "read_golden_cases"]

GOLDEN_NAME = "golden/cases.npz"
_KEYS = ("images", "inputs", "logits")
_DISTANCES = "distances"
_LARGEST_BYTES = 256 * 2**20


@dataclass(frozen=True)
class GoldenCases:
    """Some display images with what must become of them."""

    images: npt.NDArray[np.uint8]
    """(n, rows, columns), 0 black to 255 white."""
    inputs: npt.NDArray[np.float32]
    """(n, rows, columns, channels) of the network."""
    logits: npt.NDArray[np.float32]
    """(n, outputs)."""
    distances: npt.NDArray[np.float64] | None = None
    """(n,), from the training images; None in a bundle without a guard of scope."""

    def display_images(self) -> npt.NDArray[np.float32]:
        """Return the images as `models.preparation.prepare` takes them, 0 to 1."""
        return self.images.astype(np.float32) / np.float32(255)

    def to_bytes(self) -> bytes:
        """Write the cases as the compressed `.npz` that a bundle holds."""
        target = io.BytesIO()
        arrays = {key: getattr(self, key) for key in _KEYS}
        if self.distances is not None:
            arrays[_DISTANCES] = self.distances
        np.savez_compressed(target, **arrays)
        return target.getvalue()


def golden_images(rows: int = 300, columns: int = 360) -> npt.NDArray[np.uint8]:
    """Draw six pictures by formula: ramps, stripes, and chests of dark ellipses.

    Returns
    -------
    (6, rows, columns), uint8. The same on every machine but for the last bit.
    """
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    body = np.exp(-((x / 0.85) ** 6) - (y / 1.1) ** 8) * 0.85
    lungs = sum(
        np.exp(-((((x - side) / 0.28) ** 2) ** 2) - (((y + 0.05) / 0.6) ** 2) ** 2)
        for side in (-0.42, 0.42)
    )
    ribs = 0.06 * np.sin(22 * y + 3 * x**2)
    chest = body * (1 - 0.7 * lungs) + ribs * body
    patch = 0.35 * np.exp(-(((x - 0.4) / 0.18) ** 2) - ((y - 0.2) / 0.22) ** 2)
    haze = 0.25 * np.exp(-((x + 0.35) ** 2 + (y - 0.25) ** 2) / 0.3)
    pictures = [
        (x + y + 2) / 4,
        0.5 + 0.5 * np.sin(9 * x) * np.cos(7 * y),
        chest,
        chest + patch,
        chest + patch + haze,
        0.2 + 0.5 * (chest + haze),
    ]
    return np.stack([(np.clip(p, 0, 1) * 255).astype(np.uint8) for p in pictures])


def read_golden_cases(
    path: Path, *, input_shape: tuple[int, ...], outputs: int, scoped: bool = False
) -> GoldenCases:
    """Read and check golden cases.

    Parameters
    ----------
    path
        The `.npz`.
    input_shape
        (rows, columns, channels) that the inputs must have.
    outputs
        Logits of each case.
    scoped
        The bundle has a guard of scope, so each case has a distance.

    Raises
    ------
    InvalidBundle
        If they are missing, damaged, too large, or of other shapes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            inflated = sum(entry.file_size for entry in archive.infolist())
        if inflated > _LARGEST_BYTES:
            raise InvalidBundle(
                f"{path.name} would inflate to {inflated} bytes; golden cases need at "
                f"most {_LARGEST_BYTES}."
            )
        # allow_pickle=False: an object array would run code while it is read.
        with np.load(path, allow_pickle=False) as arrays:
            images, inputs, logits = (arrays[key] for key in _KEYS)
            distances = arrays[_DISTANCES] if scoped else None
    except (OSError, KeyError, ValueError, MemoryError, zipfile.BadZipFile) as error:
        raise InvalidBundle(
            f"{path.name} holds no readable golden cases ({error}); the arrays "
            f"{', '.join(_KEYS)} are expected. Pack the bundle again."
        ) from error
    count = len(images)
    if (
        count == 0
        or (images.ndim, images.dtype) != (3, np.uint8)
        or (inputs.shape, inputs.dtype) != ((count, *input_shape), np.float32)
        or (logits.shape, logits.dtype) != ((count, outputs), np.float32)
        or not np.isfinite(inputs).all()
        or not np.isfinite(logits).all()
    ):
        raise InvalidBundle(
            f"{path.name} holds images {images.shape} {images.dtype}, inputs "
            f"{inputs.shape} and logits {logits.shape}; expected were uint8 images "
            f"(n, rows, columns), inputs (n, {', '.join(map(str, input_shape))}) and "
            f"logits (n, {outputs}), all finite. Pack the bundle again."
        )
    if distances is not None and (
        (distances.shape, distances.dtype) != ((count,), np.float64)
        or not np.isfinite(distances).all()
    ):
        raise InvalidBundle(
            f"{path.name} holds distances {distances.shape} {distances.dtype}; "
            f"expected were ({count},) float64, all finite. Pack the bundle again."
        )
    return GoldenCases(images, inputs, logits, distances)
