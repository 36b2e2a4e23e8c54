"""Half a gigabyte of frames costs the memory of a few of them."""

import subprocess
import sys

import numpy as np
import pytest
from pydicom import uid
from pydicom.encaps import encapsulate

from tests.pixels import frames_of
from worker.phantom.encode import ENCODERS

SIDE = 512
FRAME_BYTES = 2 * SIDE * SIDE

# Run in a process of its own: a peak cannot be taken back.
READ = """
import resource, sys
from pathlib import Path
import numpy as np
from models.specification import InputSpecification
from worker.inputs import iter_inputs
from worker.pixels.decode import iter_frames

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

path, how, warm_up = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])

def read(path):
    if how == "frames":
        return sum(1 for frame in iter_frames(path, threads=2) if frame.max() >= 0)
    specification = InputSpecification(rows=32, columns=32)
    return sum(1 for _ in iter_inputs([path], specification, threads=2))

read(warm_up)
before = peak()
print(read(path), peak() - before)
"""


def write(path, frames: int, syntax: str) -> None:
    """Write an object of noise without holding more than a few frames."""
    image, _ = frames_of(uid.ExplicitVRLittleEndian, rows=8, columns=8, bits_stored=12)
    image.Rows = image.Columns = SIDE
    image.NumberOfFrames = frames
    noise = np.random.default_rng(0).integers(0, 4096, (SIDE, SIDE), np.uint16)
    image.PixelData = b""
    if syntax == uid.ExplicitVRLittleEndian:
        image.save_as(path, enforce_file_format=True)
        with path.open("r+b") as file:
            file.seek(-4, 2)
            file.write((FRAME_BYTES * frames).to_bytes(4, "little"))
            for number in range(frames):
                file.write(np.roll(noise, number).tobytes())
        return
    stream = ENCODERS[syntax].encode(noise, 12)
    image.file_meta.TransferSyntaxUID = syntax
    image.PixelData = encapsulate([stream] * frames)
    image["PixelData"].VR = "OB"
    image.save_as(path, enforce_file_format=True)


@pytest.mark.parametrize(
    ("syntax", "how", "frames"),
    [
        (uid.ExplicitVRLittleEndian, "frames", 1000),
        (uid.ExplicitVRLittleEndian, "inputs", 1000),
        (uid.HTJ2KLossless, "frames", 250),
        (uid.HTJ2KLossless, "inputs", 250),
    ],
)
def test_a_large_object_is_read_in_the_memory_of_a_few_frames(
    tmp_path, syntax, how, frames
):
    path, warm_up = tmp_path / "large.dcm", tmp_path / "small.dcm"
    write(path, frames, syntax)
    write(warm_up, 4, syntax)
    assert path.stat().st_size > frames * FRAME_BYTES * 0.7

    run = subprocess.run(
        [sys.executable, "-c", READ, str(path), how, str(warm_up)],
        capture_output=True,
        text=True,
        check=True,
    )
    path.unlink()

    read, grown = map(int, run.stdout.split())
    assert read == frames
    # float32 takes two frames' room, and two threads are at work.
    assert grown < 24 * FRAME_BYTES, f"{grown / 2**20:.1f} MB"
