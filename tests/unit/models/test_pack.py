import json
import zipfile

import pytest

from core.errors import InvalidBundle
from models.calibration import Calibration
from models.pack import pack
from tests.tiny_bundle import make_tiny_bundle, save_tiny_network, tiny_answers


def test_a_packed_bundle_leaves_the_optimizer_out(tmp_path):
    network = save_tiny_network(tmp_path / "trained.keras", compiled=True)

    bundle = pack(network, tiny_answers(), tmp_path / "bundle")

    with zipfile.ZipFile(bundle.weights_path) as archive:
        assert not json.loads(archive.read("config.json"))["compile_config"]


def test_a_card_skeleton_says_that_nothing_was_measured(tiny_bundle):
    assert "Not measured yet" in tiny_bundle.card
    assert tiny_bundle.intended_use in tiny_bundle.card


def test_the_calibration_given_replaces_that_of_the_answers(tmp_path):
    network = save_tiny_network(tmp_path / "trained.keras")

    bundle = pack(
        network,
        tiny_answers(),
        tmp_path / "bundle",
        card="# Card ü\n",
        calibration=Calibration(temperature=1.5, bias=-0.25, threshold=0.625),
    )

    output = bundle.outputs[0]
    assert (output.temperature, output.bias, output.threshold) == (1.5, -0.25, 0.625)
    assert bundle.card == "# Card ü\n"


def test_texts_with_quotes_and_line_breaks_survive_the_manifest(tmp_path):
    answers = tiny_answers()
    text = 'She said "no" \\ yes,\nthen left: Ünïcode \t\u2028.'
    answers["identity"]["not_for"] = text
    network = save_tiny_network(tmp_path / "trained.keras")

    bundle = pack(network, answers, tmp_path / "bundle")

    assert bundle.not_for == text


def test_nothing_is_left_behind_when_an_answer_is_wrong(tmp_path):
    network = save_tiny_network(tmp_path / "trained.keras")
    answers = tiny_answers(modalities=["chest"])

    with pytest.raises(InvalidBundle, match=r"applies_to\.modalities"):
        pack(network, answers, tmp_path / "bundle")

    assert [path.name for path in tmp_path.iterdir()] == ["trained.keras"]


def test_a_network_for_another_input_is_not_packed(tmp_path):
    network = save_tiny_network(tmp_path / "trained.keras")
    answers = tiny_answers()
    answers["input"]["rows"] = 64

    with pytest.raises(InvalidBundle, match="takes inputs"):
        pack(network, answers, tmp_path / "bundle")


def test_a_network_with_more_outputs_than_answers_is_not_packed(tmp_path):
    import keras

    inputs = keras.Input((16, 16, 1))
    pooled = keras.layers.GlobalAveragePooling2D()(inputs)
    keras.Model(inputs, keras.layers.Dense(2)(pooled)).save(tmp_path / "two.keras")

    with pytest.raises(InvalidBundle, match=r"logits \(n, 1\)"):
        pack(tmp_path / "two.keras", tiny_answers(), tmp_path / "bundle")


def test_an_existing_folder_is_not_overwritten(tiny_bundle):
    with pytest.raises(InvalidBundle, match="exists already"):
        make_tiny_bundle(tiny_bundle.path)


@pytest.mark.parametrize("kind", ["sequential", "nested"])
def test_sequential_and_nested_networks_can_be_packed(tmp_path, kind):
    import keras

    pooled = keras.layers.GlobalAveragePooling2D()
    answer = keras.layers.Dense(1)
    network = keras.Sequential([keras.Input((16, 16, 1)), pooled, answer])
    if kind == "nested":
        inputs = keras.Input((16, 16, 1))
        network = keras.Model(inputs, network(inputs))
    network.save(tmp_path / "network.keras")

    bundle = pack(tmp_path / "network.keras", tiny_answers(), tmp_path / "bundle")

    assert bundle.weights_path.is_file()
