"""Freeze a Keras network: constants folded, fixed to one image, as a plain list.

TensorFlow's own converter does the work (it also folds a normalisation into the
convolution before it); what it makes is taken apart here, and a calculation that is not
on the table is refused. Only packing comes here.
"""

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from core.errors import InvalidBundle
from models.frozen.graph import NO_INPUT, FrozenGraph, Operator, checked_graph
from models.frozen.operators import OPERATORS
from models.runtimes.tensorflow import frozen_function

__all__ = ["freeze"]


def freeze(
    network: Any, *, input_shape: tuple[int, ...], output_lengths: tuple[int, ...]
) -> FrozenGraph:
    """Freeze a network for one image.

    Parameters
    ----------
    network
        keras.Model, as `models.runtimes.tensorflow.read_network` returns it.
    input_shape
        (rows, columns, channels).
    output_lengths
        Numbers an image of each output.

    Raises
    ------
    InvalidBundle
        If it calculates what is not on the table; Keras can still serve it.
    """
    import tensorflow as tf  # noqa: PLC0415
    from tensorflow.lite.python import schema_py_generated as schema  # noqa: PLC0415

    frozen = frozen_function(network, (1, *input_shape))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of its own parts
        try:
            converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
            made = schema.ModelT.InitFromPackedBuf(converter.convert(), 0)
        except (ValueError, RuntimeError, AttributeError) as error:
            raise InvalidBundle(
                f"TensorFlow's converter refuses it: {str(error)[:200]}"
            ) from error
    (graph,) = made.subgraphs
    names = {
        value: name
        for name, value in vars(schema.BuiltinOperator).items()
        if isinstance(value, int)
    }
    operators = []
    for one in graph.operators:
        code = made.operatorCodes[one.opcodeIndex]
        operators.append(_operator(one, names[code.builtinCode], code.version, schema))
    arrays = _arrays(graph, made.buffers)
    return checked_graph(
        input_tensor=int(graph.inputs[0]),
        outputs=_in_order(graph, output_lengths),
        operators=tuple(operators),
        arrays=arrays,
        input_shape=input_shape,
        output_lengths=output_lengths,
    )


def _operator(one: Any, name: str, version: int, schema: Any) -> Operator:
    kind = OPERATORS.get(name)
    if kind is None or len(one.outputs) != 1:
        raise InvalidBundle(f"it calculates {name}, which is not on the list")
    found = vars(one.builtinOptions) if one.builtinOptions is not None else {}
    if kind.table is not None:
        usual = vars(getattr(schema, f"{kind.table}T")())
        for key, value in found.items():
            # How sums are kept in integers does not matter to floats.
            if key not in kind.options and value != usual[key] and "pot" not in key:
                raise InvalidBundle(f"it calculates {name} with {key} = {value}")
    return Operator(
        kind=name,
        version=version,
        inputs=tuple(NO_INPUT if i < 0 else int(i) for i in one.inputs),
        output=int(one.outputs[0]),
        options={key: float(found[key]) for key in kind.options},
    )


def _arrays(graph: Any, buffers: Any) -> dict[int, npt.NDArray[Any]]:
    types = {0: np.float32, 2: np.int32}
    arrays: dict[int, npt.NDArray[Any]] = {}
    for number, tensor in enumerate(graph.tensors):
        data = buffers[tensor.buffer].data
        if data is None or not len(data):
            continue
        if tensor.type not in types:
            raise InvalidBundle(f"it holds an array of type {tensor.type}")
        shape = [] if tensor.shape is None else [int(size) for size in tensor.shape]
        values = np.asarray(data, np.uint8).view(types[tensor.type])
        arrays[number] = values.reshape(shape).copy()
    return arrays


def _in_order(graph: Any, output_lengths: tuple[int, ...]) -> tuple[int, ...]:
    # The converter keeps no order of outputs; their names end in it.
    def place(number: int) -> int:
        name = graph.tensors[number].name.decode("utf-8", "replace")
        _, _, ending = name.rpartition("_")
        return int(ending) if ending.isdigit() else 0

    found = tuple(sorted((int(one) for one in graph.outputs), key=place))
    if len(found) != len(output_lengths):
        raise InvalidBundle(f"it has {len(found)} outputs")
    return found
