import io
import json
import zipfile

import h5py
import numpy as np
import pytest

from core.errors import InvalidBundle
from models.archive import check_keras_archive

SHAPE = (16, 16, 1)


@pytest.fixture
def parts(tiny_bundle):
    with zipfile.ZipFile(tiny_bundle.weights_path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def write(tmp_path):
    def write_archive(parts):
        path = tmp_path / "model.keras"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in parts.items():
                archive.writestr(name, content)
        return path

    return write_archive


def with_layer(parts, **changes):
    config = json.loads(parts["config.json"])
    config["config"]["layers"][-1].update(changes)
    return {**parts, "config.json": json.dumps(config)}


def with_weights(parts, change):
    stream = io.BytesIO(parts["model.weights.h5"])
    with h5py.File(stream, "r+") as root:
        change(root)
    return {**parts, "model.weights.h5": stream.getvalue()}


def test_a_plain_network_passes(tiny_bundle):
    check_keras_archive(tiny_bundle.weights_path, SHAPE)


@pytest.mark.parametrize(
    "changes",
    [
        {"class_name": "Lambda"},
        {"class_name": "TFSMLayer"},
        {"class_name": "TorchModuleWrapper"},
        {"module": "os", "class_name": "system"},
        {"module": "builtins", "class_name": "eval"},
        {"module": None},
        {"registered_name": "my_package>Dense"},
        {"class_name": "StringLookup"},
        {"module": "keras.utils", "class_name": "get_file"},
        {"class_name": "__keras_tensor__"},
        {"class_name": ["Dense"]},
    ],
)
def test_a_class_that_is_not_on_the_list_is_refused(parts, write, changes):
    path = write(with_layer(parts, **changes))

    with pytest.raises(InvalidBundle, match="allowed layers"):
        check_keras_archive(path, SHAPE)


def test_a_class_hidden_deep_in_a_layers_settings_is_refused(parts, write):
    config = json.loads(parts["config.json"])
    hidden = {"module": "builtins", "class_name": "function", "config": "exec"}
    config["config"]["layers"][-1]["config"]["activation"] = [[{"x": hidden}]]

    with pytest.raises(InvalidBundle, match="'function'"):
        check_keras_archive(write({**parts, "config.json": json.dumps(config)}), SHAPE)


def test_a_network_class_of_its_own_is_refused(parts, write):
    config = json.loads(parts["config.json"])
    config.update(class_name="MyModel", module="evil", registered_name="evil>MyModel")

    with pytest.raises(InvalidBundle, match="MyModel"):
        check_keras_archive(write({**parts, "config.json": json.dumps(config)}), SHAPE)


@pytest.mark.parametrize("name", ["../outside", "assets/code.py", "config.json.py"])
def test_a_further_name_in_the_zip_is_refused(parts, write, name):
    with pytest.raises(InvalidBundle, match="exactly"):
        check_keras_archive(write({**parts, name: b"x"}), SHAPE)


def test_a_member_that_inflates_beyond_reason_is_refused(parts, write):
    bomb = {**parts, "metadata.json": b" " * 10_000_000}

    with pytest.raises(InvalidBundle, match="inflate"):
        check_keras_archive(write(bomb), SHAPE)


@pytest.mark.parametrize(
    ("key", "size"), [("units", 10**9), ("units", -1), ("filters", 10**7)]
)
def test_a_layer_of_absurd_size_is_refused(parts, write, key, size):
    config = json.loads(parts["config.json"])
    config["config"]["layers"][-1]["config"][key] = size

    with pytest.raises(InvalidBundle, match=key):
        check_keras_archive(write({**parts, "config.json": json.dumps(config)}), SHAPE)


def test_weights_that_are_not_finite_are_refused(parts, write):
    def spoil(root):
        root["layers/dense/vars/0"][...] = np.nan

    with pytest.raises(InvalidBundle, match="not finite"):
        check_keras_archive(write(with_weights(parts, spoil)), SHAPE)


@pytest.mark.parametrize(
    "link", [h5py.ExternalLink("/etc/other.h5", "/x"), h5py.SoftLink("/layers")]
)
def test_weights_that_link_elsewhere_are_refused(parts, write, link):
    def spoil(root):
        root["layers/further"] = link

    with pytest.raises(InvalidBundle, match="links elsewhere"):
        check_keras_archive(write(with_weights(parts, spoil)), SHAPE)


def test_weights_stored_in_another_file_are_refused(parts, write, tmp_path):
    def spoil(root):
        root.create_dataset(
            "stolen", (4,), "f4", external=[(str(tmp_path / "x"), 0, 16)]
        )

    with pytest.raises(InvalidBundle, match="stored in the file"):
        check_keras_archive(write(with_weights(parts, spoil)), SHAPE)


def test_weights_that_claim_more_than_the_file_holds_are_refused(parts, write):
    def spoil(root):
        root.create_dataset("huge", (10**12,), "f4", chunks=(1024,))

    with pytest.raises(InvalidBundle, match="claims 4000000000000 bytes"):
        check_keras_archive(write(with_weights(parts, spoil)), SHAPE)


@pytest.mark.parametrize("name", ["model.h5", "model.pkl", "model"])
def test_other_formats_than_keras_are_refused_unread(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x89HDF")

    with pytest.raises(InvalidBundle, match=r"not a \.keras file"):
        check_keras_archive(tmp_path / name, SHAPE)


@pytest.mark.parametrize("spoiled", ["config.json", "model.weights.h5"])
def test_a_damaged_member_is_refused(parts, write, spoiled):
    with pytest.raises(InvalidBundle, match="not .*readable"):
        check_keras_archive(write({**parts, spoiled: b"[" * 100_000}), SHAPE)


def test_a_file_that_is_no_zip_is_refused(tmp_path):
    (tmp_path / "model.keras").write_bytes(b"not a zip")

    with pytest.raises(InvalidBundle, match="not a readable"):
        check_keras_archive(tmp_path / "model.keras", SHAPE)
