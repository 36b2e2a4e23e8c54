"""Load a bundle's network once, prove it on its golden cases, and ask it.

TensorFlow is imported inside functions: only the process that infers pays for it, and
never before a fork.
"""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from core.errors import InternalError, InvalidBundle, ModelOutputInvalid
from models.bundle import Bundle
from models.preparation import prepare
from models.scope.guard import ScopeGuard, vectors

__all__ = ["Answer", "LoadedModel", "ResidentModels", "load", "with_features"]

FloatArray = npt.NDArray[np.float32]

# One image is the usual study; series come in eights, the last one filled up with
# zeros, so that TensorFlow traces two shapes and never another.
_BATCH = 8
_PREPARATION_TOLERANCE = 1e-2


@dataclass(frozen=True, eq=False)
class Answer:
    """What a network said of some images."""

    logits: FloatArray
    """(n, outputs), finite."""
    distances: npt.NDArray[np.float64] | None
    """(n,), from the training images; None if the bundle has no guard of scope."""


class LoadedModel:
    """A network in memory that has passed its golden cases.

    Parameters
    ----------
    bundle
        What it was loaded from.
    single, several
        Traced functions for one image and for eight, from a batch to logits; to logits
        and features if the bundle has a guard of scope.
    seconds_to_load
        From reading the file to the last golden case.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        single: Callable[[FloatArray], Any],
        several: Callable[[FloatArray], Any],
    ) -> None:
        self.bundle = bundle
        self.seconds_to_load = 0.0
        self._single = single
        self._several = several
        self._guard: ScopeGuard | None = bundle.scope_guard()

    def logits(self, batch: FloatArray) -> FloatArray:
        """Ask the network, whatever the image; parameters and errors as for `answer`.

        Returns
        -------
        (n, outputs), float32, finite.
        """
        return self.answer(batch).logits

    def answer(self, batch: FloatArray) -> Answer:
        """Ask the network, and how far each image lies from its training images.

        Parameters
        ----------
        batch
            (n, rows, columns, channels), float32, as `models.preparation.prepare`
            makes each; n from 1.

        Raises
        ------
        ModelOutputInvalid
            If an output is NaN or infinite.
        InternalError
            If the batch has another shape or type.
        """
        given = self.bundle.input
        expected = (given.rows, given.columns, given.channels)
        if batch.shape[1:] != expected or not len(batch) or batch.dtype != np.float32:
            raise InternalError(
                f"A batch for {self.bundle.name} is (n, {expected}) float32, not "
                f"{batch.shape} {batch.dtype}."
            )
        answers, features = self._ask(batch)
        if answers.shape != (len(batch), len(self.bundle.outputs)):
            raise ModelOutputInvalid(
                f"{self.bundle.name} {self.bundle.version} answered in shape "
                f"{answers.shape}; its manifest describes "
                f"{len(self.bundle.outputs)} output(s) an image. Pack it again."
            )
        if not np.isfinite(answers).all():
            raise ModelOutputInvalid(
                f"{self.bundle.name} {self.bundle.version} answered with values that "
                "are not finite. Check the bundle and the image; nothing is reported."
            )
        return Answer(answers, self._distances(features, batch))

    def _distances(
        self, features: FloatArray | None, batch: FloatArray
    ) -> npt.NDArray[np.float64] | None:
        if self._guard is None or self.bundle.scope is None or features is None:
            return None
        side = self.bundle.scope.picture_side
        expected = len(self._guard.mean) - side**2
        if features.shape != (len(batch), expected):
            raise InvalidBundle(
                f"Layer {self.bundle.scope.layer} of {self.bundle.name} "
                f"{self.bundle.version} gives {features.shape}; its guard of scope "
                f"was fitted to {expected} features an image. Pack it again."
            )
        distances = self._guard.distances(vectors(features, batch, side))
        if not np.isfinite(distances).all():
            raise ModelOutputInvalid(
                f"{self.bundle.name} {self.bundle.version} gave features that are not "
                "finite. Check the bundle and the image; nothing is reported."
            )
        return distances

    def _ask(self, batch: FloatArray) -> tuple[FloatArray, FloatArray | None]:
        if len(batch) == 1:
            return self._parts(self._single(batch))
        parts: list[tuple[FloatArray, FloatArray | None]] = []
        for start in range(0, len(batch), _BATCH):
            part = batch[start : start + _BATCH]
            filled = np.zeros((_BATCH, *batch.shape[1:]), np.float32)
            filled[: len(part)] = part
            logits, features = self._parts(self._several(filled))
            kept = None if features is None else features[: len(part)]
            parts.append((logits[: len(part)], kept))
        together = [one for _, one in parts if one is not None]
        return (
            np.concatenate([one for one, _ in parts]),
            np.concatenate(together) if together else None,
        )

    def _parts(self, result: Any) -> tuple[FloatArray, FloatArray | None]:
        if self._guard is None:
            return np.asarray(result, np.float32), None
        logits, features = result
        return np.asarray(logits, np.float32), np.asarray(features, np.float32)


class ResidentModels:
    """The networks that this process has loaded, each once, kept until it ends."""

    def __init__(self) -> None:
        self._loaded: dict[str, LoadedModel] = {}
        self._lock = threading.Lock()

    def get(self, bundle: Bundle) -> LoadedModel:
        """Return the bundle's network; the first call loads it.

        Raises
        ------
        InvalidBundle
            If it cannot be loaded or fails its golden cases.
        """
        with self._lock:
            if bundle.bundle_sha256 not in self._loaded:
                self._loaded[bundle.bundle_sha256] = load(bundle)
            return self._loaded[bundle.bundle_sha256]


def load(bundle: Bundle) -> LoadedModel:
    """Load a network, warm it up and hold it against its golden cases.

    Parameters
    ----------
    bundle
        As `read_bundle` returned it, so its file has been checked.

    Raises
    ------
    InvalidBundle
        If Keras cannot rebuild the network, or a golden case comes out otherwise than
        when the bundle was packed.
    """
    began = time.monotonic()
    network = _read_network(bundle)
    if bundle.scope is not None:
        network = with_features(network, bundle.scope.layer)
    model = LoadedModel(
        bundle,
        single=_traced(network, bundle, 1),
        several=_traced(network, bundle, _BATCH),
    )
    _prove(model)
    model.seconds_to_load = time.monotonic() - began
    return model


def _read_network(bundle: Bundle) -> Any:
    # Before the import, or TensorFlow greets every log with a dozen lines.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf  # noqa: PLC0415
    from keras.saving import load_model  # noqa: PLC0415

    _let_gpu_memory_grow(tf)
    try:
        # compile=False: no loss or optimizer is rebuilt; safe_mode: no lambda runs.
        return load_model(bundle.weights_path, compile=False, safe_mode=True)
    except (ValueError, TypeError, KeyError, OSError, RuntimeError) as error:
        raise InvalidBundle(
            f"Keras cannot rebuild the network of {bundle.name} {bundle.version}: "
            f"{error}. Save it with the Keras version in use, or newer, and pack it "
            "again."
        ) from error


def with_features(network: Any, layer: str) -> Any:
    """Make a network answer with what one of its layers computes, in the same pass.

    Parameters
    ----------
    network
        keras.Model with one output.
    layer
        Name of a layer of it.

    Returns
    -------
    keras.Model whose outputs are those of the network and of the layer; it shares the
    weights.

    Raises
    ------
    InvalidBundle
        If there is no such layer, or it is used more than once.
    """
    from keras import Model  # noqa: PLC0415

    try:
        features = network.get_layer(layer).output
        return Model(network.input, [network.output, features])
    except (ValueError, AttributeError) as error:
        raise InvalidBundle(
            f"The network has no layer {layer!r} with one output, which [scope] names: "
            f"{error}. Correct the name or pack the right network."
        ) from error


def _let_gpu_memory_grow(tf: Any) -> None:
    # By default TensorFlow takes the whole GPU, and a second worker finds none.
    for device in tf.config.list_physical_devices("GPU"):
        try:
            tf.config.experimental.set_memory_growth(device, True)
        except RuntimeError:
            return  # TensorFlow already runs; its memory is as it is


def _traced(network: Any, bundle: Bundle, size: int) -> Callable[[FloatArray], Any]:
    import tensorflow as tf  # noqa: PLC0415

    given = bundle.input
    shape = (size, given.rows, given.columns, given.channels)
    traced = tf.function(
        lambda batch: network(batch, training=False),
        input_signature=[tf.TensorSpec(shape, tf.float32)],
        autograph=False,
    )
    try:
        return traced.get_concrete_function()  # type: ignore[no-any-return]
    except (ValueError, TypeError, RuntimeError) as error:
        raise InvalidBundle(
            f"The network of {bundle.name} {bundle.version} does not take an input of "
            f"shape {shape}: {error}. Correct [input] or pack the right network."
        ) from error


def _prove(model: LoadedModel) -> None:
    bundle = model.bundle
    cases = bundle.golden_cases()
    prepared = np.stack([prepare(i, bundle.input) for i in cases.display_images()])
    _compare(bundle, "prepared input", prepared, cases.inputs, _PREPARATION_TOLERANCE)
    try:
        singly = [model.answer(one[np.newaxis]) for one in cases.inputs]
        together = model.answer(cases.inputs)
    except ModelOutputInvalid as error:
        raise InvalidBundle(f"A golden case gave no valid answer: {error}") from error
    tolerance = bundle.golden_tolerance
    alone = np.concatenate([answer.logits for answer in singly])
    for logits in (alone, together.logits):
        _compare(bundle, "logit", logits, cases.logits, tolerance)
    if cases.distances is None or together.distances is None:
        return
    # Far from the training images a distance is large, and so is its rounding.
    unit = np.maximum(cases.distances, 1)
    kept = cases.distances / unit
    apart = np.array([answer.distances for answer in singly])[:, 0]
    for distances in (apart, together.distances):
        _compare(bundle, "distance", distances / unit, kept, tolerance)


def _compare(
    bundle: Bundle,
    what: str,
    found: npt.NDArray[np.floating],
    expected: npt.NDArray[np.floating],
    tolerance: float,
) -> None:
    difference = float(np.abs(found - expected).max())
    if not difference <= tolerance:
        raise InvalidBundle(
            f"{bundle.name} {bundle.version}: a golden case's {what} differs by "
            f"{difference:.3g} from the kept one; {tolerance:g} is allowed. This "
            "machine computes otherwise than the one that packed the bundle: check "
            "the versions of TensorFlow, Keras and OpenCV; the model is not served."
        )
