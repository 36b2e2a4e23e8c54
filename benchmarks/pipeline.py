"""`python -m benchmarks.pipeline`: how well decoding and inference overlap.

Radiographs of the built-in phantom go through a reading process's own code with as many
in hand as the settings say. Beside it, in the same rounds, each stage alone, one study
at a time: files made into inputs of the network (decoded and prepared), and the
network. The slower of the two is the limit of stages that overlap; the bar is the share
of it. A pipeline may pass it where two studies are decoded on two cores, so the inputs
alone on as many threads stand there too: they leave no core for the network.
"""

import argparse
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless

from benchmarks.harness import (
    Measured,
    Report,
    Sample,
    Summary,
    add_output_options,
    paired_rounds,
    ratios,
    summarise,
)
from core.settings import Settings, WorkerSettings
from models.bundle import read_bundle
from models.catalogue import SHIPPED_BUNDLES
from models.runtime import load
from models.runtimes.seam import usable_cores
from worker.inputs import read_input
from worker.orders import ReadingOrder, SourceInstance
from worker.phantom import PhantomIdentity, chest_radiograph, to_dicom
from worker.pipeline import ReadingRoom
from worker.pixels.limits import PixelLimits

LUNG = SHIPPED_BUNDLES / "lung-pneumonia-paediatric"
SYNTAXES = {
    "explicit": ExplicitVRLittleEndian,
    "JPEG 2000": JPEG2000Lossless,
    "JPEG-LS": JPEGLSLossless,
}
PIPELINE = "pipeline"
SERIAL = "the same, one study at a time"
INPUTS = "inputs alone, one study at a time"
INPUTS_ALL = "inputs alone, as many threads"
NETWORK = "network alone, one study at a time"
ORDER_S = 60.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline")
    parser.add_argument("--studies", type=int, default=16)
    parser.add_argument("--side", type=int, default=2048, help="rows and columns")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=WorkerSettings().jobs_per_process)
    parser.add_argument("--syntaxes", nargs="+", choices=SYNTAXES, default=["explicit"])
    add_output_options(parser)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="secondread-pipeline-") as name:
        folder = Path(name)
        figures = Report("pipeline", folder)
        for syntax in given.syntaxes:
            orders = _orders(folder / syntax, given.studies, given.side, syntax)
            _measure(figures, folder, orders, syntax, given)
        figures.note(f"{given.jobs} studies in hand at a time, {usable_cores()} cores")
        figures.finish(given)


def _orders(folder: Path, count: int, side: int, syntax: str) -> list[ReadingOrder]:
    folder.mkdir()
    image = chest_radiograph(rows=side, columns=side)
    bundle = read_bundle(LUNG)
    orders = []
    for number in range(count):
        identity = PhantomIdentity(study_seed=uuid.uuid4().hex)
        dataset = to_dicom(
            image, identity=identity, transfer_syntax_uid=SYNTAXES[syntax]
        )
        path = folder / f"{number}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        instance = SourceInstance(
            path=str(path),
            sop_class_uid=str(dataset.SOPClassUID),
            sop_instance_uid=str(dataset.SOPInstanceUID),
            series_instance_uid=str(dataset.SeriesInstanceUID),
        )
        orders.append(
            ReadingOrder(
                study_instance_uid=str(dataset.StudyInstanceUID),
                bundle_sha256=bundle.bundle_sha256,
                instances=(instance,),
                time_limit_s=ORDER_S,
            )
        )
    return orders


def _measure(
    figures: Report,
    folder: Path,
    orders: Sequence[ReadingOrder],
    syntax: str,
    given: argparse.Namespace,
) -> None:
    settings = Settings(
        data_dir=folder / "data", worker=WorkerSettings(jobs_per_process=given.jobs)
    )
    room = ReadingRoom(settings)
    room.warm_up()
    limits = PixelLimits()
    bundle = read_bundle(LUNG)
    model = load(bundle)
    image = np.ascontiguousarray(bundle.golden_cases().inputs[:1])
    paths = [Path(order.instances[0].path) for order in orders]

    def inputs(path: Path) -> object:
        return read_input(path, bundle.input, limits)

    arms = {
        PIPELINE: _rate(room.read, orders, given.jobs),
        SERIAL: _rate(room.read, orders, 1),
        INPUTS: _rate(inputs, paths, 1),
        INPUTS_ALL: _rate(inputs, paths, given.jobs),
        NETWORK: _rate(lambda _: model.answer(image), paths, 1),
    }
    measured = paired_rounds(
        arms, rounds=given.rounds, folder=folder / f"{syntax} runs"
    )
    limits_of = {
        "the slower stage": (INPUTS, NETWORK),
        "inputs on as many threads": (INPUTS_ALL,),
    }
    shares = {name: _share(measured, stages) for name, stages in limits_of.items()}
    rate = "studies a second"
    figures.table(
        f"{len(orders)} radiographs of {given.side} x {given.side}, {syntax}",
        [
            *({"way": arm, rate: measured.summary(arm, "per_s")} for arm in arms),
            *({"way": f"pipeline / {n}", rate: share} for n, share in shares.items()),
        ],
        plot=rate,
    )
    figures.keep(syntax, measured.as_json())
    if syntax == given.syntaxes[0]:
        figures.bar("pipeline", shares["the slower stage"])


def _share(measured: Measured, stages: Sequence[str]) -> Summary:
    """Return the pipeline's rate over that of the slowest of some stages, by round."""
    rounds = zip(*(measured.values(one, "per_s") for one in stages), strict=True)
    slowest = [min(rates) for rates in rounds]
    return summarise(ratios(measured.values(PIPELINE, "per_s"), slowest))


def _rate(
    work: Callable[[Any], object], items: Sequence[Any], threads: int
) -> Callable[[Path], Sample]:
    def run(_folder: Path) -> Sample:
        began = time.perf_counter()
        if threads == 1:
            for item in items:
                work(item)
        else:
            with ThreadPoolExecutor(threads) as pool:
                for _ in pool.map(work, items):
                    pass
        return {"per_s": len(items) / (time.perf_counter() - began)}

    return run


if __name__ == "__main__":
    main()
