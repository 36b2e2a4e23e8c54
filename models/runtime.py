"""Load a bundle's network once, prove it on its golden cases, and ask it.

TensorFlow is imported inside functions: only the process that infers pays for it, and
never before a fork.
"""

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from core.errors import InternalError, InvalidBundle, ModelOutputInvalid
from models.bundle import Bundle
from models.preparation import prepare

__all__ = ["LoadedModel", "ResidentModels", "load"]

FloatArray = npt.NDArray[np.float32]

# One image is the usual study; series come in eights, the last one filled up with
# zeros, so that TensorFlow traces two shapes and never another.
_BATCH = 8
_PREPARATION_TOLERANCE = 1e-2


class LoadedModel:
    """A network in memory that has passed its golden cases.

    Parameters
    ----------
    bundle
        What it was loaded from.
    single, several
        Traced functions for one image and for eight.
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

    def logits(self, batch: FloatArray) -> FloatArray:
        """Ask the network.

        Parameters
        ----------
        batch
            (n, rows, columns, channels), float32, as `models.preparation.prepare`
            makes each; n from 1.

        Returns
        -------
        (n, outputs), float32, finite.

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
        answers = self._ask(batch)
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
        return answers

    def _ask(self, batch: FloatArray) -> FloatArray:
        if len(batch) == 1:
            return np.asarray(self._single(batch), np.float32)
        parts = []
        for start in range(0, len(batch), _BATCH):
            part = batch[start : start + _BATCH]
            filled = np.zeros((_BATCH, *batch.shape[1:]), np.float32)
            filled[: len(part)] = part
            parts.append(np.asarray(self._several(filled), np.float32)[: len(part)])
        return np.concatenate(parts)


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
        singly = np.concatenate([model.logits(one[np.newaxis]) for one in cases.inputs])
        together = model.logits(cases.inputs) if len(cases.inputs) > 1 else singly
    except ModelOutputInvalid as error:
        raise InvalidBundle(f"A golden case gave no valid answer: {error}") from error
    for answers in (singly, together):
        _compare(bundle, "logit", answers, cases.logits, bundle.golden_tolerance)


def _compare(
    bundle: Bundle,
    what: str,
    found: FloatArray,
    expected: FloatArray,
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
