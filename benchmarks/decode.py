"""Decoders, by transfer syntax: `python -m benchmarks.decode`.

Every decoder that is installed, whether it is used or not, with one and with two
threads on frames of their own: `gain` is frames in two threads over frames in one, up
to 2 on free cores if the decoder lets go of Python's lock. `lock` says whether it does
so, which no load of the machine changes. Then, from a file: pydicom as it comes against
what the worker does, each pixel touched once.
"""

import argparse
import logging
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import imagecodecs
import numpy as np
from pydicom import Dataset, dcmread, uid
from pydicom.encaps import encapsulate, generate_frames

from benchmarks.harness import Report, Sample, add_output_options, paired_rounds
from benchmarks.pixels.images import KINDS, SYNTAXES, Kind, image_of
from worker.pixels.decode import iter_frames
from worker.pixels.decoders import DECODERS, decoder
from worker.pixels.parallel import usable_cores

_LEAST_SECONDS = 0.05
_PATIENCE_SECONDS = 1.0
_CODEC_ALONE = {
    "imagecodecs ljpeg (not used)": imagecodecs.ljpeg_decode,
    "imagecodecs jpegsof3 (not used)": imagecodecs.jpegsof3_decode,
}
_FRAMES = 48
_SMALL = Kind("small", 256, 256, 8)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.decode", description=__doc__
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kinds", nargs="*", choices=[*KINDS], default=[*KINDS])
    parser.add_argument(
        "--syntaxes", nargs="*", choices=[*SYNTAXES], default=[*SYNTAXES]
    )
    add_output_options(parser)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        report = Report("decode", folder)
        for kind in (KINDS[key] for key in given.kinds):
            images = {
                label: image
                for label in given.syntaxes
                if (image := image_of(kind, SYNTAXES[label])) is not None
            }
            _decoders(report, kind, images, given.rounds, folder)
            _files(report, kind, images, given.rounds, folder)
        _several_frames(report, given.syntaxes, given.rounds, folder)
        report.finish(given)


Work = Callable[[], object]


def _decoders(
    report: Report,
    kind: Kind,
    images: dict[str, Dataset],
    rounds: int,
    folder: Path,
) -> None:
    rows = []
    for label, image in images.items():
        works = _able(report, f"{kind.label}, {label}", _works(image))
        if not works:
            continue
        measured = paired_rounds(
            {name: _timed(work) for name, work in works.items()},
            rounds=rounds,
            folder=folder / f"decoders {kind.rows} {label}",
        )
        report.keep(f"{kind.label}, {label}", measured.as_json())
        first = next(iter(measured.samples))
        locks = _locks(SYNTAXES[label])
        rows += [
            {
                "syntax and decoder": f"{label}: {name}",
                "ms a frame": measured.summary(name, "ms"),
                "cpu ms": measured.summary(name, "cpu_ms"),
                "gain of 2 threads": measured.summary(name, "gain"),
                "lock": locks.get(name, ""),
                "cpu to the first": measured.ratio(name, first, "cpu_ms"),
            }
            for name in measured.samples
        ]
    report.table(f"Decoders, {kind.label}", rows, plot="ms a frame")


def _works(image: Dataset, *, whole: bool = True) -> dict[str, Work]:
    """Decode one frame by each plug-in that pydicom finds, ours first.

    Parameters
    ----------
    whole
        Copied into an array of all frames, as a user of pydicom gets it.
    """
    syntax = image.file_meta.TransferSyntaxUID
    if not uid.UID(syntax).is_encapsulated:
        return {}
    found = decoder(syntax).available_plugins
    chosen = [name for name in DECODERS[syntax].plugins if name in found]
    names = [*chosen, *(name for name in found if name not in chosen)]
    works: dict[str, Work] = {}
    for name in names:
        label = name if name in chosen else f"{name} (not used)"
        works[label] = _work(image, name, whole=whole)
    if syntax == uid.JPEGLosslessSV1 and image.SamplesPerPixel == 1:
        stream = next(generate_frames(image.PixelData, number_of_frames=1))
        for label, decode in _CODEC_ALONE.items():
            works[label] = lambda decode=decode: decode(stream)  # type: ignore[misc]
    return works


def _work(image: Dataset, plugin: str, *, whole: bool) -> Work:
    by = decoder(image.file_meta.TransferSyntaxUID)
    if whole:
        return lambda: by.as_array(image, decoding_plugin=plugin)
    return lambda: next(by.iter_array(image, decoding_plugin=plugin))


def _able(report: Report, what: str, works: dict[str, Work]) -> dict[str, Work]:
    """Leave out, and say so, who does not read this kind of image at all."""
    able = {}
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    for name, work in works.items():
        try:
            work()
        except Exception as error:  # noqa: BLE001 - codecs raise what they like
            report.note(f"{what}: {name} cannot read it ({type(error).__name__})")
        else:
            able[name] = work
    return able


def _timed(work: Work) -> Callable[[Path], Sample]:
    def run(folder: Path) -> Sample:
        del folder
        started = time.perf_counter()
        work()
        once = time.perf_counter() - started
        times = max(1, round(_LEAST_SECONDS / once))
        processor = time.process_time()
        alone = _seconds(work, times)
        processor = time.process_time() - processor
        with ThreadPoolExecutor(2) as pool:
            started = time.perf_counter()
            both = [pool.submit(_seconds, work, times) for _ in range(2)]
            for one in both:
                one.result()
            together = time.perf_counter() - started
        return {
            "ms": 1e3 * alone / times,
            "cpu_ms": 1e3 * processor / times,
            "gain": 2 * alone / together,
        }

    return run


def _locks(syntax: str) -> dict[str, str]:
    """Say of each plug-in whether it lets go of the lock.

    On a small image of 8 bits: of others NumPy works on the samples, too, and lets go
    of the lock by itself.
    """
    image = image_of(_SMALL, syntax)
    assert image is not None
    found = {}
    for label, work in _works(image, whole=False).items():
        with suppress(Exception):  # who cannot read it is told of elsewhere
            work()
            found[label] = "let go" if _lets_go(work) else "held"
    return found


def _lets_go(work: Work) -> bool:
    """Tell whether another thread runs while `work` does, unforced.

    Without forced changes between threads, the one that works ends only when it is told
    to stop, which another can say only while it lets go of the lock.
    """
    begun, stop, told = threading.Event(), threading.Event(), []

    def until_told() -> None:
        begun.set()
        patience = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < patience and not stop.is_set():
            work()
        told.append(stop.is_set())

    interval = sys.getswitchinterval()
    sys.setswitchinterval(100)
    try:
        thread = threading.Thread(target=until_told)
        thread.start()
        begun.wait()
        stop.set()
        thread.join()
    finally:
        sys.setswitchinterval(interval)
    return told[0]


def _seconds(work: Work, times: int) -> float:
    started = time.perf_counter()
    for _ in range(times):
        work()
    return time.perf_counter() - started


def _files(
    report: Report,
    kind: Kind,
    images: dict[str, Dataset],
    rounds: int,
    folder: Path,
) -> None:
    rows = []
    for label, image in images.items():
        path = folder / f"{kind.rows} {label}.dcm"
        image.save_as(path, enforce_file_format=True)
        measured = paired_rounds(
            {
                "pydicom": _file_timed(lambda p=path: dcmread(p).pixel_array.max()),  # type: ignore[misc]
                "ours": _file_timed(
                    lambda p=path: [frame.max() for frame in iter_frames(p)]  # type: ignore[misc]
                ),
            },
            rounds=rounds,
            folder=folder / f"files {kind.rows} {label}",
        )
        rows.append(
            {
                "syntax": label,
                "pydicom ms": measured.summary("pydicom", "ms"),
                "ours ms": measured.summary("ours", "ms"),
                "pydicom / ours": measured.ratio("pydicom", "ours", "ms"),
            }
        )
    report.table(f"File to stored values, {kind.label}", rows, plot="pydicom / ours")


def _file_timed(work: Work) -> Callable[[Path], Sample]:
    def run(folder: Path) -> Sample:
        del folder
        once = _seconds(work, 1)
        times = max(1, round(_LEAST_SECONDS / once))
        return {"ms": 1e3 * _seconds(work, times) / times}

    return run


def _several_frames(
    report: Report, syntaxes: list[str], rounds: int, folder: Path
) -> None:
    rows = []
    for label in syntaxes:
        image = image_of(KINDS["CT"], SYNTAXES[label])
        if image is None or label == "Deflated":
            continue
        path = folder / f"frames {label}.dcm"
        _repeat(image, _FRAMES)
        image.save_as(path, enforce_file_format=True)
        cores = usable_cores()

        def read(threads: int, path: Path = path) -> Work:
            return lambda: [int(f.max()) for f in iter_frames(path, threads=threads)]

        measured = paired_rounds(
            {
                "1 thread": _file_timed(read(1)),
                "a thread a core": _file_timed(read(cores)),
            },
            rounds=rounds,
            folder=folder / f"several {label}",
        )
        rows.append(
            {
                "syntax": label,
                "1 thread, ms": measured.summary("1 thread", "ms"),
                f"{cores} threads, ms": measured.summary("a thread a core", "ms"),
                "gain": measured.ratio("1 thread", "a thread a core", "ms"),
            }
        )
    report.table(f"{_FRAMES} frames of CT in one file", rows, plot="gain")


def _repeat(image: Dataset, frames: int) -> None:
    image.NumberOfFrames = frames
    if not uid.UID(image.file_meta.TransferSyntaxUID).is_encapsulated:
        pixels = np.frombuffer(image.PixelData, np.uint8)
        image.PixelData = np.tile(pixels, frames).tobytes()
        return
    stream = next(generate_frames(image.PixelData, number_of_frames=1))
    image.PixelData = encapsulate([stream] * frames)
    image["PixelData"].VR = "OB"


if __name__ == "__main__":
    main()
