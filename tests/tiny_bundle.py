"""A complete bundle of a network so small that its answer can be told by hand.

Its logit is ten times the mean of the image (0 black to 1 white) less five: a bright
image is positive, a dark one negative, an image of mean 0.5 has probability 0.5.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.bundle import Bundle
from models.pack import pack

SIDE = 16
# Keras 3.15 calls numpy.array in a way that NumPy 2 warns of; nothing of ours.
KERAS_AND_NUMPY = "ignore:__array__ implementation doesn't accept:DeprecationWarning"


def save_tiny_network(path: Path, *, compiled: bool = False) -> Path:
    """Save the network as a `.keras` file."""
    import keras

    inputs = keras.Input((SIDE, SIDE, 1))
    pooled = keras.layers.GlobalAveragePooling2D()(inputs)
    network = keras.Model(inputs, keras.layers.Dense(1, name="logit")(pooled))
    network.get_layer("logit").set_weights([np.array([[10.0]]), np.array([-5.0])])
    if compiled:
        network.compile(optimizer="adam", loss="mse")
    network.save(path)
    return path


def tiny_answers(
    *,
    name: str = "tiny-brightness",
    version: str = "1.0.0",
    modalities: Sequence[str] = ("CR", "DX"),
    sop_class_uids: Sequence[str] = (),
    body_parts: Sequence[str] = ("CHEST",),
    views: Sequence[str] = ("AP", "PA"),
    age_years: tuple[float, float] | None = None,
    age_policy: str = "refuse",
    uncertain_band: tuple[float, float] | None = None,
    time_limit_s: float = 30.0,
    images: str = "best",
) -> dict[str, Any]:
    """Return the answers from which the tiny bundle is packed."""
    scope: dict[str, Any] = {
        "modalities": list(modalities),
        "sop_class_uids": list(sop_class_uids),
        "body_parts": list(body_parts),
        "views": list(views),
        "age_policy": age_policy,
    }
    output: dict[str, Any] = {
        "tracking_identifier": "pneumonia",
        "finding": {"value": "233604007", "scheme": "SCT", "meaning": "Pneumonia"},
        "site": {"value": "39607008", "scheme": "SCT", "meaning": "Lung"},
        "activation": "sigmoid",
        "threshold": 0.5,
    }
    if age_years is not None:
        scope["age_years"] = list(age_years)
    if uncertain_band is not None:
        output["uncertain_band"] = list(uncertain_band)
    return {
        "identity": {
            "name": name,
            "version": version,
            "title": "Brightness, for tests",
            "manufacturer": "secondread tests",
            "licence": "Apache-2.0",
            "attribution": "No data: the weights are written by hand.",
            "intended_use": "Tests.",
            "not_for": "Anything else.",
        },
        "applies_to": scope,
        "input": {
            "rows": SIDE,
            "columns": SIDE,
            "channels": 1,
            "aspect": "stretch",
            "normalisation": "none",
            "images": images,
        },
        "outputs": [output],
        "runtime": {"time_limit_s": time_limit_s, "memory_mib": 600},
    }


def make_tiny_bundle(path: Path, **answers: Any) -> Bundle:
    """Pack the tiny bundle into a new folder; `answers` as for `tiny_answers`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "__array__ impl", DeprecationWarning)
        network = save_tiny_network(path.parent / f"{path.name}.keras")
        try:
            return pack(network, tiny_answers(**answers), path)
        finally:
            network.unlink()
