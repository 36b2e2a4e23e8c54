"""Real files of many vendors: whichever decoder reads a frame, it is the same."""

import numpy as np
import pytest

from core.errors import UnsupportedImage
from tests.data import DICOM_FILES, index_rows, needs_dicom_files
from tests.decoding import decoded_by_each, tolerance
from worker.pixels.decode import open_frames

FRAMES = 3

pytestmark = [pytest.mark.acceptance, needs_dicom_files]


@pytest.mark.parametrize("file", [row["file"] for row in index_rows()])
def test_decoders_agree_on_a_real_file(file):
    compared = 0
    try:
        frames = open_frames(DICOM_FILES / file)
        for number, encoded in enumerate(frames.encoded(), start=1):
            if number > FRAMES:
                break
            compared += _compare(frames, encoded)
    except UnsupportedImage:
        pytest.skip("not read at all, which other tests look at")
    if not compared:
        pytest.skip("only one decoder reads it")


def _compare(frames, encoded) -> int:
    colour = frames.layout.samples > 1
    allowed = tolerance(frames.transfer_syntax_uid, colour=colour)
    (_, ours), *others = decoded_by_each(frames, encoded)
    for name, frame in others:
        assert frame.shape == ours.shape, name
        apart = np.abs(frame.astype(np.float64) - ours.astype(np.float64)).max()
        assert apart <= allowed, f"{name} differs by {apart:g}"
    return len([name for name, _ in others if name != "imagecodecs"])
