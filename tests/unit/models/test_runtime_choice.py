"""Which runtime serves: the fastest that gives the golden answers, or TensorFlow."""

import hashlib
import tomllib

import numpy as np
import pytest

from models.bundle import read_bundle
from models.frozen.graph import FROZEN_NAME
from models.runtime import light_candidates, load


class ByHand:
    """Runs the tiny bundle's graph in NumPy, off by `error`, after `seconds`."""

    largest_batch = 1

    def __init__(self, name, error=0.0, seconds=0.0):
        self.name, self.error, self.seconds = name, error, seconds

    def __call__(self, graph, threads):
        assert threads >= 1
        return self

    def run(self, batch):
        import time

        time.sleep(self.seconds)
        means = batch.mean(axis=(1, 2), dtype=np.float64)
        return [np.asarray(means * 10 - 5 + self.error, np.float32)]


def broken(graph, threads):
    raise RuntimeError("no such instruction on this processor")


def missing(graph, threads):
    raise ImportError


def test_the_fastest_that_agrees_serves_and_the_others_say_why_not(tiny_bundle):
    light = {
        "slow": ByHand("slow", seconds=0.01),
        "quick": ByHand("quick"),
        "wrong": ByHand("wrong", error=5e-4),
        "broken": broken,
        "missing": missing,
    }

    model = load(tiny_bundle, light=light)

    why = {one.name: one.why for one in model.considered}
    assert [one.name for one in model.considered if one.serves] == ["quick"]
    assert model.runtime.name == "quick"
    assert "quick is faster" in why["slow"]
    assert "logit differs by 0.0005" in why["wrong"]
    assert "no such instruction" in why["broken"]
    assert "pip install secondread[missing]" in why["missing"]
    assert "not loaded" in why["tensorflow"]


def test_tensorflow_serves_when_no_other_agrees(tiny_bundle):
    model = load(tiny_bundle, light={"wrong": ByHand("wrong", error=5e-4)})

    assert model.runtime.name == "tensorflow"
    assert model.logits(np.ones((1, 16, 16, 1), "f4")) == pytest.approx(5, abs=1e-4)


def test_a_difference_within_a_thousandth_of_the_tolerance_may_serve(tiny_bundle):
    model = load(tiny_bundle, light={"near": ByHand("near", error=5e-5)})

    assert model.runtime.name == "near"


def test_a_runtime_that_is_asked_for_by_name_serves_though_another_is_faster(
    tiny_bundle,
):
    light = {"litert": ByHand("litert", seconds=0.005), "quick": ByHand("quick")}

    assert load(tiny_bundle, "litert", light=light).runtime.name == "litert"
    assert load(tiny_bundle, "tensorflow", light=light).runtime.name == "tensorflow"


def test_a_bundle_without_a_frozen_graph_is_served_by_tensorflow(bundle_copy):
    manifest = bundle_copy / "bundle.toml"
    lines = manifest.read_text().splitlines()
    manifest.write_text("\n".join(line for line in lines if FROZEN_NAME not in line))
    (bundle_copy / FROZEN_NAME).unlink()

    model = load(read_bundle(bundle_copy))

    assert model.runtime.name == "tensorflow"
    assert "no frozen graph" in model.considered[0].why


def test_a_frozen_graph_of_another_network_does_not_serve(bundle_copy, light_runtime):
    # Whole and well-formed, with a right hash: only its answers betray it.
    path = bundle_copy / FROZEN_NAME
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    for name, array in arrays.items():
        if array.dtype == np.float32 and array.ndim == 2:
            arrays[name] = array * np.float32(1.01)
    np.savez(path, **arrays)
    manifest = bundle_copy / "bundle.toml"
    text = manifest.read_text()
    old = tomllib.loads(text)["files"][FROZEN_NAME]
    manifest.write_text(
        text.replace(old, hashlib.sha256(path.read_bytes()).hexdigest())
    )

    model = load(read_bundle(bundle_copy))

    assert model.runtime.name == "tensorflow"
    assert "logit differs" in model.considered[0].why


def test_what_could_serve_is_told_without_tensorflow(tiny_bundle):
    told = light_candidates(tiny_bundle, "tensorflow")

    assert not any(one.serves for one in told)
    assert all("the settings ask for tensorflow" in one.why for one in told)
