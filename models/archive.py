"""Make sure that a `.keras` file is what it claims to be: layers and finite numbers.

A `.keras` file is a zip of a description (`config.json`) and an HDF5 file of weights.
Both can name code, other files or absurd sizes, and Keras believes much of it. So the
file is looked through before TensorFlow is even imported:

- the zip holds exactly the three known names, of bounded inflated size;
- every class named in the description is on an allow-list of plain layers
  (CVE-2024-3660 Lambda, CVE-2025-1550 modules, CVE-2026-1462 TFSMLayer);
- sizes in the description stay within reason;
- the HDF5 file links to nothing outside itself and all its numbers are finite.
"""

import json
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.errors import InvalidBundle
from models.weights import LARGEST_WEIGHTS_BYTES, check_weights

__all__ = ["ALLOWED_LAYERS", "check_keras_archive"]

_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_LIMITS = {_CONFIG: 16 * 2**20, _METADATA: 65536, _WEIGHTS: LARGEST_WEIGHTS_BYTES}

ALLOWED_LAYERS = frozenset(
    {
        "InputLayer", "Dense", "Conv1D", "Conv2D", "Conv3D", "DepthwiseConv2D",
        "SeparableConv2D", "Conv2DTranspose", "BatchNormalization",
        "LayerNormalization", "GroupNormalization", "UnitNormalization",
        "Normalization", "Rescaling", "ReLU", "LeakyReLU", "PReLU", "ELU", "Softmax",
        "Activation", "Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum",
        "Concatenate", "MaxPooling1D", "MaxPooling2D", "MaxPooling3D",
        "AveragePooling1D", "AveragePooling2D", "AveragePooling3D",
        "GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalAveragePooling3D",
        "GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalMaxPooling3D",
        "ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D", "Cropping2D",
        "UpSampling2D", "Flatten", "Reshape", "Permute", "Dropout", "SpatialDropout2D",
        "GaussianNoise",
    }
)  # fmt: skip
"""Layers that only compute; anything that calls, loads or looks up is absent."""

_ALLOWED = {
    "keras.layers": ALLOWED_LAYERS,
    "keras.initializers": frozenset(
        {
            "Zeros",
            "Ones",
            "Constant",
            "GlorotUniform",
            "GlorotNormal",
            "HeUniform",
            "HeNormal",
            "LecunUniform",
            "LecunNormal",
            "RandomNormal",
            "RandomUniform",
            "TruncatedNormal",
            "VarianceScaling",
            "Orthogonal",
        }
    ),  # fmt: skip
    "keras.regularizers": frozenset({"L1", "L2", "L1L2"}),
    "keras.constraints": frozenset({"MaxNorm", "NonNeg", "UnitNorm", "MinMaxNorm"}),
    "keras": frozenset({"DTypePolicy", "Functional", "Sequential", "Model"}),
    "keras.models": frozenset({"Functional", "Sequential", "Model"}),
    # Where Keras 3 itself says that its two plain model classes live.
    "keras.src.models.functional": frozenset({"Functional"}),
    "keras.src.models.sequential": frozenset({"Sequential"}),
}
# A reference to another layer's output, not a class.
_TENSOR = "__keras_tensor__"
_LARGEST_SIZE = {"filters": 16384, "units": 65536, "depth_multiplier": 64}
_LARGEST_INPUT = 2**28


def check_keras_archive(
    path: Path, input_shape: tuple[int, ...], *, with_optimizer: bool = False
) -> None:
    """Refuse a `.keras` file that is anything but plain layers with finite weights.

    Parameters
    ----------
    path
        The file.
    input_shape
        Of one input, without the batch: the network must ask for exactly it.
    with_optimizer
        Let a description of the training pass, as a file fresh from training has one.
        Whoever asks for that must load the file without compiling it.

    Raises
    ------
    InvalidBundle
        With what was found, what was expected and what to do.
    """
    if path.suffix != ".keras":
        raise InvalidBundle(
            f"{path.name} is not a .keras file. HDF5 (.h5), pickle and SavedModel can "
            "carry code and are not accepted; save the network with "
            "model.save('model.keras')."
        )
    try:
        with zipfile.ZipFile(path) as archive:
            _check_names(path, archive)
            config = _read_config(path, archive)
            weights = archive.read(_WEIGHTS)
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError) as error:
        raise InvalidBundle(
            f"{path.name} is not a readable .keras archive ({error}). Save it again "
            "with Keras 3 or restore the file."
        ) from error
    _check_config(path, config, input_shape, with_optimizer=with_optimizer)
    check_weights(f"{_WEIGHTS} in {path.name}", weights)


def _check_names(path: Path, archive: zipfile.ZipFile) -> None:
    names = sorted(entry.filename for entry in archive.infolist())
    if names != sorted(_LIMITS):
        raise InvalidBundle(
            f"{path.name} holds {', '.join(map(repr, names[:8]))}; exactly "
            f"{', '.join(sorted(_LIMITS))} are expected. Save the network again with "
            "Keras 3 and without assets."
        )
    for entry in archive.infolist():
        if entry.file_size > _LIMITS[entry.filename]:
            raise InvalidBundle(
                f"{entry.filename} in {path.name} would inflate to {entry.file_size} "
                f"bytes; at most {_LIMITS[entry.filename]} are accepted."
            )


def _read_config(path: Path, archive: zipfile.ZipFile) -> dict[str, Any]:
    try:
        config = json.loads(archive.read(_CONFIG))
    except (ValueError, RecursionError) as error:
        raise InvalidBundle(
            f"{_CONFIG} in {path.name} is not readable JSON. Save the network again."
        ) from error
    if not isinstance(config, dict):
        raise InvalidBundle(
            f"{_CONFIG} in {path.name} describes no network. Save the network again."
        )
    return config


def _check_config(
    path: Path,
    config: dict[str, Any],
    input_shape: tuple[int, ...],
    *,
    with_optimizer: bool,
) -> None:
    if with_optimizer:
        config = {key: part for key, part in config.items() if key != "compile_config"}
    elif config.get("compile_config"):
        raise InvalidBundle(
            f"{path.name} holds an optimizer or loss (compile_config), which a bundle "
            "does not need. Make the bundle with models.pack, which leaves it out."
        )
    if config.get("class_name") not in ("Functional", "Sequential"):
        raise InvalidBundle(
            f"{path.name} is a {config.get('class_name')!r}; only Functional and "
            "Sequential networks can be rebuilt without code of their own."
        )
    for part in _parts(config):
        if "class_name" in part:
            _check_class(path, part)
        _check_sizes(path, part)
    shapes = _input_shapes(config)
    if shapes != [input_shape]:
        raise InvalidBundle(
            f"{path.name} takes inputs {shapes}; bundle.toml describes one input "
            f"{input_shape}. Correct [input] or pack the right network."
        )


def _parts(root: Any) -> Iterator[dict[str, Any]]:
    # Every table of the description, however deep, without recursion.
    waiting = [root]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield part
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)


def _check_class(path: Path, part: dict[str, Any]) -> None:
    name, module = part["class_name"], part.get("module")
    registered = part.get("registered_name")
    if name == _TENSOR and module is None and registered is None:
        return
    known = (
        isinstance(name, str)
        and isinstance(module, str)
        and name in _ALLOWED.get(module, frozenset())
    )
    if not known or registered not in (None, name):
        raise InvalidBundle(
            f"{path.name} names the class {name!r} of module {module!r} (registered as "
            f"{registered!r}), which is not on the list of allowed layers. A bundle is "
            "data, never code: express the network in plain Keras layers."
        )


def _input_shapes(config: dict[str, Any]) -> list[tuple[Any, ...]]:
    # Of the network itself: a network within it has inputs of its own.
    network = config.get("config")
    layers = network.get("layers") if isinstance(network, dict) else None
    shapes = []
    for layer in layers if isinstance(layers, list) else ():
        if isinstance(layer, dict) and layer.get("class_name") == "InputLayer":
            settings = layer.get("config")
            shape = settings.get("batch_shape") if isinstance(settings, dict) else None
            shapes.append(tuple(shape[1:]) if isinstance(shape, list) else ())
    return shapes


def _check_sizes(path: Path, part: dict[str, Any]) -> None:
    for key, largest in _LARGEST_SIZE.items():
        size = part.get(key)
        if isinstance(size, int) and not 0 < size <= largest:
            raise InvalidBundle(
                f"{path.name} has a layer of {key} = {size}; 1 to {largest} are "
                "accepted."
            )
    for key in ("batch_shape", "target_shape", "kernel_size", "pool_size", "size"):
        sizes = part.get(key)
        if not isinstance(sizes, list):
            continue
        numbers = [abs(size) for size in sizes if isinstance(size, int)]
        if math.prod(numbers) > _LARGEST_INPUT:
            raise InvalidBundle(
                f"{path.name} has a layer of {key} = {sizes}; at most {_LARGEST_INPUT} "
                "elements are accepted."
            )
