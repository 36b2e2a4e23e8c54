"""Real files of many vendors: each decodes as the reference did, or says why not."""

import csv
from pathlib import Path

import numpy as np
import pytest

from core.domain import NotAnalysedReason
from core.errors import UnsupportedImage
from worker.pixels.decode import iter_frames

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "dicom"


def _rows() -> list[dict[str, str]]:
    index = DATA / "index.csv"
    if not index.is_file():
        return []
    with index.open(newline="") as file:
        return list(csv.DictReader(file))


ROWS = _rows()
WITH_REFERENCE = [row for row in ROWS if row["decoded_shape"]]
WITHOUT_REFERENCE = [row for row in ROWS if not row["decoded_shape"]]

LOSSY_JPEG = {"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"}

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(not ROWS, reason="the folder of real DICOM files is not there"),
]


@pytest.mark.parametrize("row", WITH_REFERENCE, ids=lambda row: row["file"])
def test_a_real_file_decodes_to_its_reference(row):
    frames = list(iter_frames(DATA / row["file"]))

    pixels = np.stack(frames) if len(frames) > 1 else frames[0]
    assert "x".join(map(str, pixels.shape)) == row["decoded_shape"]
    assert pixels.dtype == np.dtype(row["decoded_dtype"]).newbyteorder("=")
    assert float(pixels.min()) == pytest.approx(float(row["decoded_min"]))
    assert float(pixels.max()) == pytest.approx(float(row["decoded_max"]))
    mean = float(pixels.mean(dtype=np.float64))
    # T.81 leaves the inverse cosine transform's rounding open, so decoders of lossy
    # JPEG differ by fractions of a gray level.
    rounding = 0.03 if row["transfer_syntax"] in LOSSY_JPEG else 6e-4
    assert mean == pytest.approx(float(row["decoded_mean"]), rel=1e-5, abs=rounding)


@pytest.mark.parametrize("row", WITHOUT_REFERENCE, ids=lambda row: row["file"])
def test_a_real_file_without_reference_decodes_or_is_refused_with_a_reason(row):
    reason, frames = _decoded_or_refused(DATA / row["file"])

    assert frames > 0 or reason in set(NotAnalysedReason)


def _decoded_or_refused(path: Path) -> tuple[str, int]:
    frames = 0
    try:
        for _ in iter_frames(path):
            frames += 1
    except UnsupportedImage as refusal:
        return refusal.reason, 0
    return "", frames
