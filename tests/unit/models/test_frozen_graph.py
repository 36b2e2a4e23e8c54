import io
import json
import zipfile

import numpy as np
import pytest

from core.errors import InvalidBundle
from models.bundle import read_bundle
from models.frozen.graph import FROZEN_NAME, read_frozen
from models.loaded import LoadedModel
from models.runtime import PARITY, load
from models.runtimes.tensorflow import TensorFlowRuntime

SHAPE = (16, 16, 1)


def read(path):
    return read_frozen(path, input_shape=SHAPE, outputs=1, features=None)


@pytest.fixture
def frozen(tiny_bundle, tmp_path):
    """A copy of the tiny bundle's frozen graph, and a way to spoil it."""
    path = tmp_path / FROZEN_NAME
    path.write_bytes((tiny_bundle.path / FROZEN_NAME).read_bytes())

    def spoil(change_graph=None, change_arrays=None):
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
        graph = json.loads(arrays["graph"].tobytes())
        if change_graph is not None:
            change_graph(graph)
        text = json.dumps(graph).encode()
        arrays["graph"] = np.frombuffer(text, np.uint8)
        if change_arrays is not None:
            change_arrays(arrays)
        np.savez(path, **arrays)
        return path

    return spoil


def test_a_packed_bundle_holds_a_frozen_graph_of_its_network(tiny_bundle):
    graph = tiny_bundle.frozen_graph()

    assert [one.kind for one in graph.operators] == ["MEAN", "FULLY_CONNECTED"]
    assert graph.shapes[graph.input] == (1, *SHAPE)


def test_reading_a_frozen_graph_back_gives_the_same_bytes_again(frozen):
    graph = read(frozen())

    again = zipfile.ZipFile(io.BytesIO(graph.to_bytes()))

    assert sorted(again.namelist()) == sorted(
        ["graph.npy", *(f"t{number}.npy" for number in graph.arrays)]
    )


def set_kind(name):
    return lambda graph: graph["operators"][0].update(kind=name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_kind("CUSTOM"), "not on the list"),
        (set_kind("WHILE"), "not on the list"),
        (set_kind("FlexReadFile"), "not on the list"),
        (lambda g: g["operators"][0].update(code="x"), "Extra inputs"),
        (lambda g: g["operators"][0]["options"].update(path=1.0), "options"),
        (lambda g: g["operators"][0]["options"].update(keepDims=2.0), "keepDims"),
        (lambda g: g["operators"][1]["options"].clear(), "options"),
        (lambda g: g["operators"][0].update(inputs=[19999, 0]), "nothing before it"),
        (lambda g: g["operators"].reverse(), "nothing before it"),
        (lambda g: g["operators"].append(g["operators"][1]), "second time"),
        (lambda g: g["operators"][0].update(inputs=[0]), "inputs"),
        (lambda g: g.update(outputs=[g["input"]]), "outputs"),
        (lambda g: g.update(outputs=[20000]), "outputs.0"),
        (lambda g: g.update(format=2), "format"),
    ],
)
def test_a_graph_that_is_not_plain_calculation_in_order_is_refused(
    frozen, change, message
):
    path = frozen(change)

    with pytest.raises(InvalidBundle, match=message):
        read(path)


def of_weights(change):
    def apply(arrays):
        for name, array in arrays.items():
            if array.dtype == np.float32 and array.ndim == 2:
                arrays[name] = change(array)

    return apply


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (of_weights(lambda a: a * np.float32(np.nan)), "finite"),
        (of_weights(lambda a: a.astype(np.float64)), "float64"),
        (of_weights(lambda a: np.tile(a, (1, 2))), "do not fit"),
        (of_weights(lambda a: np.tile(a, (2, 1))), "do not fit|bias"),
        (lambda a: a.update(t99999=np.zeros(1, "f4")), "t99999"),
        (lambda a: a.update({"../x": np.zeros(1, "f4")}), "no readable"),
        (lambda a: a.update(graph=np.frombuffer(b"not JSON", np.uint8)), "describes"),
        (lambda a: a.pop("graph"), "no readable"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(frozen, change, message):
    path = frozen(change_arrays=change)

    with pytest.raises(InvalidBundle, match=message):
        read(path)


def test_pickled_objects_are_refused_unread(tmp_path):
    path = tmp_path / FROZEN_NAME
    np.savez(path, graph=np.array([{"a": 1}], dtype=object))

    with pytest.raises(InvalidBundle, match="no readable"):
        read(path)


def test_a_graph_for_another_input_is_refused(frozen):
    with pytest.raises(InvalidBundle, match="outputs|fit"):
        read_frozen(frozen(), input_shape=(16, 16, 3), outputs=1, features=None)


def every_layer():
    import keras
    from keras import layers

    inputs = keras.Input((24, 20, 1))
    x = layers.ZeroPadding2D(1)(inputs)
    x = layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU(max_value=6)(x)
    y = layers.SeparableConv2D(4, 3, padding="same")(x)
    y = layers.LeakyReLU(negative_slope=0.1)(y)
    x = layers.Add()([x, y])
    x = layers.Concatenate()([layers.MaxPooling2D(2)(x), layers.AveragePooling2D(2)(x)])
    x = layers.Activation("tanh")(x)
    x = layers.Multiply()([x, layers.Activation("sigmoid")(x)])
    x = layers.ELU()(layers.PReLU(shared_axes=[1, 2])(x))
    x = layers.Maximum()([x, layers.Minimum()([x, layers.Permute((1, 2, 3))(x)])])
    x = layers.Conv2D(6, 3, dilation_rate=2, activation="relu")(x)
    x = layers.Permute((3, 1, 2))(x)
    x = layers.Flatten()(x)
    network = keras.Model(inputs, layers.Dense(2)(x))
    random = np.random.default_rng(0)
    network.set_weights(
        [np.abs(random.normal(0.3, 0.3, w.shape)) for w in network.get_weights()]
    )
    return network


def test_the_layers_that_networks_are_made_of_can_be_frozen_and_answer_the_same(
    light_runtime,
):
    from models.frozen.freeze import freeze

    network = every_layer()
    images = np.random.default_rng(1).random((3, 24, 20, 1), "f4")

    graph = freeze(network, input_shape=(24, 20, 1), output_lengths=(2,))
    runtime = light_runtime(graph, 1)

    expected = np.asarray(network(images, training=False))
    found = np.concatenate([runtime.run(one[np.newaxis])[0] for one in images])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert np.ptp(expected) > 0.1, "a network that says always the same proves nothing"


def test_a_network_that_no_graph_can_hold_is_packed_without_one(tmp_path):
    import keras
    from keras import layers

    from models.pack import pack
    from tests.tiny_bundle import tiny_answers

    inputs = keras.Input((16, 16, 1))
    x = layers.UpSampling2D(2, interpolation="bilinear")(inputs)
    network = keras.Model(inputs, layers.Dense(1)(layers.GlobalAveragePooling2D()(x)))
    network.save(tmp_path / "network.keras")

    bundle = pack(tmp_path / "network.keras", tiny_answers(), tmp_path / "out")

    assert not bundle.has_frozen_graph
    model = load(bundle)
    assert model.runtime.name == "tensorflow"
    assert "no frozen graph" in model.considered[0].why


def test_every_runtime_gives_what_tensorflow_gives(tiny_bundle, light_runtime):
    images = np.random.default_rng(2).random((5, *SHAPE), "f4")

    found = LoadedModel(
        tiny_bundle, light_runtime(tiny_bundle.frozen_graph(), 1)
    ).logits(images)
    expected = LoadedModel(tiny_bundle, TensorFlowRuntime(tiny_bundle, 1)).logits(
        images
    )

    assert np.abs(found - expected).max() <= PARITY


def test_a_bundle_whose_frozen_graph_was_changed_is_refused_by_its_hash(bundle_copy):
    path = bundle_copy / FROZEN_NAME
    path.write_bytes(path.read_bytes() + b"\0")

    with pytest.raises(InvalidBundle, match=FROZEN_NAME):
        read_bundle(bundle_copy)
