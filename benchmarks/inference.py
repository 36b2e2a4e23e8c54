"""`python -m benchmarks.inference`: one network in every way that it can be run.

The shipped model with its trained weights, at one image and at eight; each round runs
every way in turn, and the ratios are those within a round. A way that answers otherwise
than the kept golden answers would be fast for nothing: the largest difference stands
beside the time.
"""

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import numpy.typing as npt

from benchmarks.harness import (
    Measured,
    Report,
    Sample,
    add_output_options,
    paired_rounds,
)
from models.bundle import Bundle, read_bundle
from models.catalogue import SHIPPED_BUNDLES
from models.loaded import LoadedModel
from models.runtime import LIGHT_RUNTIMES, load
from models.runtimes.seam import usable_cores
from models.runtimes.tensorflow import (
    TensorFlowRuntime,
    import_tensorflow,
    read_network,
    with_features,
)

LUNG = SHIPPED_BUNDLES / "lung-pneumonia-paediatric"
SERVED = "as served"
PREDICT = "predict"
Images = npt.NDArray[np.float32]
Ask = Callable[[Images], Any]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inference")
    parser.add_argument("--bundle", type=Path, default=LUNG)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--runs", type=int, default=20, help="of each way in a round")
    parser.add_argument("--threads", type=int, default=usable_cores())
    add_output_options(parser)
    given = parser.parse_args()
    bundle = read_bundle(given.bundle)
    with tempfile.TemporaryDirectory(prefix="secondread-inference-") as folder:
        figures = Report("inference", Path(folder))
        ways = _ways(bundle, given.threads, Path(folder) / "saved")
        for count in (1, 8):
            images = _images(bundle, count)
            arms = {name: _arm(ask, images, given.runs) for name, ask in ways.items()}
            measured = paired_rounds(
                arms, rounds=given.rounds, folder=Path(folder) / str(count)
            )
            _tell(figures, bundle, ways, measured, count)
        figures.note(f"{given.threads} threads; {bundle.name} {bundle.version}")
        figures.finish(given)


def _images(bundle: Bundle, count: int) -> Images:
    inputs = bundle.golden_cases().inputs
    return np.ascontiguousarray(np.resize(inputs, (count, *inputs.shape[1:])))


def _arm(ask: Ask, images: Images, runs: int) -> Callable[[Path], Sample]:
    def run(_folder: Path) -> Sample:
        ask(images)
        times = []
        for _ in range(runs):
            began = time.perf_counter()
            ask(images)
            times.append(time.perf_counter() - began)
        return {"ms": float(np.median(times)) * 1000 / len(images)}

    return run


def _ways(bundle: Bundle, threads: int, saved: Path) -> Mapping[str, Ask]:
    """Every way, each a function from a batch to the logits."""
    served = load(bundle, threads=threads)
    serving: Ask = served.logits
    ways = {f"{SERVED} ({served.runtime.name})": serving}
    graph = bundle.frozen_graph()
    for name, make in LIGHT_RUNTIMES.items():
        if graph is not None:
            try:
                ways[name] = LoadedModel(bundle, make(graph, threads)).logits
            except ImportError:
                continue
    frozen = LoadedModel(bundle, TensorFlowRuntime(bundle, threads))
    ways["TensorFlow, frozen"] = frozen.logits
    network = read_network(bundle)
    if bundle.scope is not None:
        network = with_features(network, bundle.scope.layer)
    ways |= _keras_ways(network, bundle, saved)
    return ways


def _keras_ways(network: Any, bundle: Bundle, saved: Path) -> dict[str, Ask]:
    tf = import_tensorflow()
    given = bundle.input
    shape = (given.rows, given.columns, given.channels)
    several = bundle.scope is not None

    def first(result: Any) -> Images:
        return np.asarray(result[0] if several else result)

    traced = tf.function(lambda batch: network(batch, training=False), autograph=False)
    module = tf.Module()
    module.serve = tf.function(
        lambda batch: network(batch, training=False),
        input_signature=[tf.TensorSpec((None, *shape), tf.float32)],
        autograph=False,
    )
    module.network = network
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tf.saved_model.save(module, str(saved))
    loaded = tf.saved_model.load(str(saved))
    return {
        PREDICT: lambda batch: first(network.predict(batch, verbose=0)),
        "predict_on_batch": lambda batch: first(network.predict_on_batch(batch)),
        "tf.function": lambda batch: first(traced(tf.constant(batch))),
        "SavedModel": lambda batch: first(loaded.serve(tf.constant(batch))),
    }


def _tell(
    figures: Report,
    bundle: Bundle,
    ways: Mapping[str, Ask],
    measured: Measured,
    count: int,
) -> None:
    cases = bundle.golden_cases()
    images, expected = (
        _images(bundle, count),
        np.resize(cases.logits, (count, *cases.logits.shape[1:])),
    )
    figures.table(
        f"{count} image{'s' if count > 1 else ''} at once, ms an image",
        [
            {
                "way": name,
                "ms an image": measured.summary(name, "ms"),
                "faster than predict": measured.ratio(PREDICT, name, "ms"),
                "largest difference": f"{np.abs(ask(images) - expected).max():.1e}",
            }
            for name, ask in ways.items()
        ],
        plot="ms an image",
    )
    figures.keep(f"{count} at once", measured.as_json())
    if count == 1:
        served = next(name for name in ways if name.startswith(SERVED))
        figures.bar("inference-1", measured.ratio(PREDICT, served, "ms"))
        others = [name for name in ways if name != served]
        best = min(others, key=lambda name: measured.summary(name, "ms").median)
        figures.bar("inference-best", measured.ratio(best, served, "ms"))


if __name__ == "__main__":
    main()
