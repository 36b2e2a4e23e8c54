"""Which networks stay in memory."""

from dataclasses import replace

import pytest

from models.bundle import Bundle
from models.loaded import LoadedModel
from models.resident import ResidentModels
from models.runtime import load


class Nothing:
    name, largest_batch = "none", 1

    def run(self, batch):
        raise AssertionError("nobody asks it")


class Loader:
    """Loads the tiny network for every bundle, each at a price of its own."""

    def __init__(self, prices):
        self.prices = prices
        self.loaded = []

    def __call__(self, bundle: Bundle) -> LoadedModel:
        self.loaded.append(bundle.name)
        model = LoadedModel(bundle, Nothing())
        model.bytes = self.prices[bundle.name]
        return model


@pytest.fixture
def bundles(tiny_bundle):
    return [
        replace(tiny_bundle, name=name, bundle_sha256=name)
        for name in ("first", "second", "third", "huge")
    ]


@pytest.fixture
def loader():
    return Loader({"first": 40, "second": 40, "third": 40, "huge": 500})


def held(resident, bundles):
    return [one.name for one in bundles if resident.holds(one.bundle_sha256)]


def test_the_least_recently_used_goes_when_the_budget_is_spent(bundles, loader):
    resident = ResidentModels(100, loader=loader)
    first, second, third, _ = bundles
    for bundle in (first, second, first, third):
        resident.get(bundle)

    assert held(resident, bundles) == ["first", "third"]
    assert resident.used_bytes() == 80


def test_a_network_that_went_is_loaded_again_when_it_is_asked_for(bundles, loader):
    resident = ResidentModels(100, loader=loader)
    for bundle in bundles[:3]:
        resident.get(bundle)

    resident.get(bundles[0])

    assert loader.loaded == ["first", "second", "third", "first"]
    assert held(resident, bundles) == ["first", "third"]


def test_one_that_is_larger_than_the_budget_is_kept_alone(bundles, loader):
    resident = ResidentModels(100, loader=loader)
    for bundle in bundles:
        resident.get(bundle)

    assert held(resident, bundles) == ["huge"]


def test_without_a_budget_all_stay(bundles, loader):
    resident = ResidentModels(loader=loader)
    for bundle in bundles:
        resident.get(bundle)

    assert len(held(resident, bundles)) == 4
    assert resident.used_bytes() == 620


@pytest.mark.parametrize("wish", ["tensorflow", "automatic"])
def test_what_a_network_costs_is_measured_and_no_less_than_its_file(tiny_bundle, wish):
    model = load(tiny_bundle, wish)

    assert model.bytes >= tiny_bundle.weights_path.stat().st_size
    assert model.bytes < 2**30
