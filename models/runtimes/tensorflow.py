"""TensorFlow: serves every bundle, from its Keras file.

The network is traced for fixed shapes, its weights become constants of the graph
(measured: the same to a third faster than a traced function, and many times faster than
`predict`), and the Keras object is let go. TensorFlow is imported inside functions:
only the process that infers pays for it, and never before a fork.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from core.errors import InvalidBundle
from models.bundle import Bundle
from models.runtimes.seam import FloatArray

__all__ = [
    "TensorFlowRuntime",
    "frozen_function",
    "import_tensorflow",
    "read_network",
    "with_features",
]

# One image is the usual study; series come in eights, the last one filled up with
# zeros, so that TensorFlow traces two shapes and never another.
_BATCH = 8


class TensorFlowRuntime:
    """A bundle's network in TensorFlow.

    Parameters
    ----------
    bundle
        As `read_bundle` returned it, so its file has been checked.
    threads
        Cores that one operation may use; counts until TensorFlow has run once.

    Raises
    ------
    InvalidBundle
        If Keras cannot rebuild the network or it does not take the stated input.
    """

    name = "tensorflow"
    largest_batch = _BATCH

    def __init__(self, bundle: Bundle, threads: int) -> None:
        tf = import_tensorflow()
        _let_gpu_memory_grow(tf)
        _use_threads(tf, threads)
        network = read_network(bundle)
        if bundle.scope is not None:
            network = with_features(network, bundle.scope.layer)
        given = bundle.input
        shape = (given.rows, given.columns, given.channels)
        try:
            self._single = frozen_function(network, (1, *shape))
            self._several = frozen_function(network, (_BATCH, *shape))
        except (ValueError, TypeError, RuntimeError) as error:
            raise InvalidBundle(
                f"The network of {bundle.name} {bundle.version} does not take an input "
                f"of shape {shape}: {error}. Correct [input] or pack the right network."
            ) from error
        self._constant = tf.constant

    def run(self, batch: FloatArray) -> Sequence[npt.NDArray[Any]]:
        """Calculate; see `Runtime.run`."""
        function = self._single if len(batch) == 1 else self._several
        # A copy: a view would keep TensorFlow's own memory alive.
        return [np.array(one) for one in function(self._constant(batch))]


def import_tensorflow() -> Any:
    """Import TensorFlow, which takes seconds, quietly."""
    # Before the import, or TensorFlow greets every log with a dozen lines.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow  # noqa: PLC0415

    return tensorflow


def read_network(bundle: Bundle) -> Any:
    """Rebuild a bundle's network with Keras.

    Returns
    -------
    keras.Model.

    Raises
    ------
    InvalidBundle
        If Keras cannot.
    """
    import_tensorflow()
    from keras.saving import load_model  # noqa: PLC0415

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


def frozen_function(network: Any, shape: tuple[int, ...]) -> Any:
    """Trace a network for one shape and make its weights constants.

    Parameters
    ----------
    network
        keras.Model.
    shape
        (n, rows, columns, channels).

    Returns
    -------
    A concrete function of one tensor that returns a list of tensors.
    """
    tf = import_tensorflow()
    from tensorflow.python.framework.convert_to_constants import (  # noqa: PLC0415
        convert_variables_to_constants_v2,
    )

    def answer(batch: Any) -> Any:
        return network(batch, training=False)

    traced = tf.function(
        answer, input_signature=[tf.TensorSpec(shape, tf.float32)], autograph=False
    )
    return convert_variables_to_constants_v2(traced.get_concrete_function())


def _let_gpu_memory_grow(tf: Any) -> None:
    # By default TensorFlow takes the whole GPU, and a second worker finds none.
    for device in tf.config.list_physical_devices("GPU"):
        try:
            tf.config.experimental.set_memory_growth(device, True)
        except RuntimeError:
            return  # TensorFlow already runs; its memory is as it is


def _use_threads(tf: Any, threads: int) -> None:
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        return  # it already runs, with the threads of the first bundle
