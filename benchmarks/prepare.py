"""Stored values to a network's input: `python -m benchmarks.prepare`.

Ours against pydicom's apply_modality_lut and apply_voi_lut with scikit-image's resize
(anti-aliased, 32 bit floats), and against OpenCV's area resize over whole-array steps.
What comes out is compared, too: a faster way to other numbers is none.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from pydicom import Dataset, uid
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from skimage.transform import resize as scikit_resize

from benchmarks.harness import Report, Sample, add_output_options, paired_rounds
from benchmarks.pixels.images import KINDS, Kind, image_of
from models.preparation import prepare
from models.specification import InputSpecification
from worker.pixels.gray import monochrome_to_gray

_INPUT = InputSpecification(rows=224, columns=224, channels=3)
_LEAST_SECONDS = 0.1

Stored = npt.NDArray[Any]
Input = npt.NDArray[np.float32]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.prepare", description=__doc__
    )
    parser.add_argument("--rounds", type=int, default=7)
    add_output_options(parser)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        report = Report("prepare", folder)
        for key in ("CT", "DX"):
            _measure(report, KINDS[key], key, given.rounds, folder / key)
        report.finish(given)


def _measure(report: Report, kind: Kind, key: str, rounds: int, folder: Path) -> None:
    image = image_of(kind, uid.ExplicitVRLittleEndian)
    assert image is not None
    if key == "CT":
        image.RescaleSlope, image.RescaleIntercept = 1, -1024
        image.WindowCenter, image.WindowWidth = 1000, 2000
    stored: Stored = np.frombuffer(image.PixelData, "<u2")
    stored = stored.reshape(image.Rows, image.Columns)
    ways: dict[str, Callable[[Stored, Dataset], Input]] = {
        "ours": ours,
        "pydicom + scikit-image": with_scikit_image,
        "pydicom's steps in float32 + OpenCV": with_opencv,
    }
    measured = paired_rounds(
        {name: _timed(way, stored, image) for name, way in ways.items()},
        rounds=rounds,
        folder=folder,
    )
    reference = ways["pydicom's steps in float32 + OpenCV"](stored, image)
    report.table(
        f"Stored values to 224 x 224 x 3, {kind.label}",
        [
            {
                "way": name,
                "ms": measured.summary(name, "ms"),
                "time to ours": measured.ratio(name, "ours", "ms"),
                "largest difference to OpenCV's": float(
                    np.abs(way(stored, image) - reference).max()
                ),
            }
            for name, way in ways.items()
        ],
        plot="ms",
    )
    report.keep(kind.label, measured.as_json())
    if key == "DX":
        report.bar("prepare-dx", measured.ratio("pydicom + scikit-image", "ours", "ms"))


def ours(stored: Stored, image: Dataset) -> Input:
    """Do what the worker does after decoding."""
    gray, _ = monochrome_to_gray(stored, image, image=image, inverted=False)
    return prepare(gray, _INPUT)


def with_scikit_image(stored: Stored, image: Dataset) -> Input:
    """Do it as tutorials do."""
    values = apply_voi_lut(apply_modality_lut(stored, image), image)
    low, high = values.min(), values.max()
    scaled = ((values - low) / (high - low)).astype(np.float32)
    small = scikit_resize(scaled, (224, 224), anti_aliasing=True)  # type: ignore[no-untyped-call]
    return np.repeat(small[:, :, np.newaxis], 3, axis=2).astype(np.float32)


def with_opencv(stored: Stored, image: Dataset) -> Input:
    """Do it in whole-array steps of float32."""
    values = stored.astype(np.float32)
    values *= np.float32(image.get("RescaleSlope", 1))
    values += np.float32(image.get("RescaleIntercept", 0))
    values -= np.float32(float(image.WindowCenter) - 0.5)
    values /= np.float32(float(image.WindowWidth) - 1)
    values += np.float32(0.5)
    np.clip(values, 0, 1, out=values)
    small = cv2.resize(values, (224, 224), interpolation=cv2.INTER_AREA)
    return np.repeat(small[:, :, np.newaxis], 3, axis=2)


def _timed(
    way: Callable[[Stored, Dataset], Input], stored: Stored, image: Dataset
) -> Callable[[Path], Sample]:
    def run(folder: Path) -> Sample:
        del folder
        started = time.perf_counter()
        way(stored, image)
        times = max(1, round(_LEAST_SECONDS / (time.perf_counter() - started)))
        started = time.perf_counter()
        for _ in range(times):
            way(stored, image)
        return {"ms": 1e3 * (time.perf_counter() - started) / times}

    return run


if __name__ == "__main__":
    main()
