import hashlib
import tomllib

import numpy as np
import pytest

from core.errors import InternalError, InvalidBundle, ModelOutputInvalid
from models.bundle import read_bundle
from models.golden import GoldenCases
from models.resident import ResidentModels
from models.runtime import LoadedModel, load


@pytest.fixture(scope="module")
def model(tiny_bundle):
    return load(tiny_bundle)


class Broken:
    name = "broken"
    largest_batch = 8

    def __init__(self, outputs, value):
        self.answer = np.full(outputs, value, np.float32)

    def run(self, batch):
        return [np.tile(self.answer, (len(batch), 1))]


def plane(value):
    return np.full((16, 16, 1), value, np.float32)


def test_the_loaded_network_answers_as_calculated_by_hand(model):
    answers = model.logits(np.stack([plane(0.0), plane(0.5), plane(1.0)]))

    np.testing.assert_allclose(answers, [[-5.0], [0.0], [5.0]], atol=1e-5)
    assert answers.dtype == np.float32


def test_an_answer_does_not_depend_on_what_else_is_in_the_batch(model):
    images = np.random.default_rng(0).random((19, 16, 16, 1), "f4")

    together = model.logits(images)
    singly = np.concatenate([model.logits(image[np.newaxis]) for image in images])

    assert together.shape == (19, 1)
    np.testing.assert_allclose(together, singly, atol=1e-5)


def test_the_time_to_load_is_known(model):
    assert model.seconds_to_load > 0


@pytest.mark.parametrize(
    "batch",
    [
        np.zeros((1, 16, 17, 1), "f4"),
        np.zeros((0, 16, 16, 1), "f4"),
        np.zeros((1, 16, 16, 1)),
    ],
)
def test_a_batch_of_another_form_is_a_bug_of_the_caller(model, batch):
    with pytest.raises(InternalError, match="float32"):
        model.logits(batch)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_output_that_is_not_finite_is_never_returned(tiny_bundle, value):
    model = LoadedModel(tiny_bundle, Broken(1, value))

    with pytest.raises(ModelOutputInvalid, match="not finite"):
        model.logits(plane(0.5)[np.newaxis])


def test_an_output_of_another_number_of_units_is_never_returned(tiny_bundle):
    model = LoadedModel(tiny_bundle, Broken(2, 0.0))

    with pytest.raises(ModelOutputInvalid, match="shape"):
        model.logits(plane(0.5)[np.newaxis])


@pytest.mark.parametrize(
    ("changed", "message"), [("logits", "logit differs"), ("inputs", "prepared input")]
)
def test_a_bundle_whose_golden_cases_come_out_otherwise_is_not_served(
    bundle_copy, changed, message
):
    kept = read_bundle(bundle_copy).golden_cases()
    arrays = {"images": kept.images, "inputs": kept.inputs, "logits": kept.logits}
    arrays[changed] = arrays[changed] + np.float32(0.05)
    content = GoldenCases(**arrays).to_bytes()
    (bundle_copy / "golden/cases.npz").write_bytes(content)
    manifest = bundle_copy / "bundle.toml"
    text = manifest.read_text()
    old = tomllib.loads(text)["files"]["golden/cases.npz"]
    manifest.write_text(text.replace(old, hashlib.sha256(content).hexdigest()))

    with pytest.raises(InvalidBundle, match=message):
        load(read_bundle(bundle_copy))


def test_a_network_is_loaded_once_in_a_process(tiny_bundle):
    resident = ResidentModels()

    first = resident.get(tiny_bundle)

    assert resident.get(read_bundle(tiny_bundle.path)) is first
