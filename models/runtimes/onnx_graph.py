"""A checked frozen graph in the form that ONNX Runtime reads.

ONNX keeps channels before rows and columns, the graph keeps them last: a window
operation stands between two transpositions, which ONNX Runtime joins and removes when
it loads the graph. Everything else is the same calculation by another name.

Source
------
ONNX operator set 13; onnx.proto (field numbers of the messages).
"""

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from models.frozen.graph import NO_INPUT, FrozenGraph, Operator
from models.frozen.operators import Shape

__all__ = ["onnx_model"]

_IR_VERSION, _OPERATOR_SET = 8, 13
_FLOAT, _INT64 = 1, 7
_CHANNELS_FIRST, _CHANNELS_LAST = [0, 3, 1, 2], [0, 2, 3, 1]
_SIMPLE = {
    "ADD": "Add",
    "SUB": "Sub",
    "MUL": "Mul",
    "DIV": "Div",
    "MAXIMUM": "Max",
    "MINIMUM": "Min",
    "RELU": "Relu",
    "LOGISTIC": "Sigmoid",
    "TANH": "Tanh",
    "ELU": "Elu",
    "PRELU": "PRelu",
}


def onnx_model(graph: FrozenGraph) -> bytes:
    """Write a checked graph as an ONNX model of one image."""
    writer = _Writer(graph)
    for operator in graph.operators:
        _TRANSLATIONS[operator.kind](writer, operator)
    return writer.model()


@dataclass
class _Writer:
    graph: FrozenGraph
    nodes: list[bytes] = field(default_factory=list)
    constants: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    made: int = 0

    def fresh(self) -> str:
        self.made += 1
        return f"x{self.made}"

    def tensor(self, number: int) -> str:
        """Name of a tensor; a constant is written when it is first used."""
        name = f"t{number}"
        if number in self.graph.arrays:
            self.constants[name] = self.graph.arrays[number]
        return name

    def constant(self, array: npt.NDArray[Any]) -> str:
        name = self.fresh()
        self.constants[name] = array
        return name

    def integers(self, number: int) -> list[int]:
        return [int(one) for one in self.graph.arrays[number].ravel()]

    def node(
        self,
        kind: str,
        inputs: Sequence[str],
        output: str | None = None,
        **attributes: Any,
    ) -> str:
        output = output or self.fresh()
        parts = [_text(1, one) for one in inputs]
        parts += [_text(2, output), _text(4, kind)]
        parts += [_part(5, _attribute(*one)) for one in attributes.items()]
        self.nodes.append(b"".join(parts))
        return output

    def activated(self, operator: Operator, name: str) -> None:
        """End an operator: its fused activation gives the tensor its name."""
        limits = {1: (0.0, None), 2: (-1.0, 1.0), 3: (0.0, 6.0)}
        code = int(operator.options.get("fusedActivationFunction", 0))
        output = f"t{operator.output}"
        if code not in limits:
            self.node("Identity", [name], output)
            return
        low, high = limits[code]
        if high is None:
            self.node("Relu", [name], output)
        else:
            self.node("Clip", [name, self.number(low), self.number(high)], output)

    def number(self, value: float) -> str:
        return self.constant(np.array(value, np.float32))

    def model(self) -> bytes:
        used = {f"t{one}" for one in self.graph.outputs} | {f"t{self.graph.input}"}
        parts = [_part(1, node) for node in self.nodes]
        parts.append(_text(2, "frozen"))
        parts += [
            _part(5, _tensor(name, array))
            for name, array in self.constants.items()
            if name not in used
        ]
        parts.append(_part(11, self._value(self.graph.input)))
        parts += [_part(12, self._value(one)) for one in self.graph.outputs]
        operator_set = _text(1, "") + _number(2, _OPERATOR_SET)
        return (
            _number(1, _IR_VERSION)
            + _text(2, "secondread")
            + _part(7, b"".join(parts))
            + _part(8, operator_set)
        )

    def _value(self, tensor: int) -> bytes:
        sizes = b"".join(
            _part(1, _number(1, size)) for size in self.graph.shapes[tensor]
        )
        kind = _number(1, _FLOAT) + _part(2, sizes)
        return _text(1, f"t{tensor}") + _part(2, _part(1, kind))


def _simple(writer: _Writer, operator: Operator) -> None:
    inputs = [writer.tensor(one) for one in operator.inputs]
    writer.activated(operator, writer.node(_SIMPLE[operator.kind], inputs))


def _windows(
    operator: Operator, given: Shape, made: Shape, kernel: tuple[int, int]
) -> dict[str, Any]:
    """Strides, dilations and the padding that "same" means."""
    options = operator.options
    before, after, strides, dilations = [], [], [], []
    for axis, letter in enumerate("HW"):
        stride = int(options[f"stride{letter}"])
        dilation = int(options.get(f"dilation{letter}Factor", 1))
        reach = (kernel[axis] - 1) * dilation + 1
        total = 0
        if options["padding"] == 0:
            needed = (made[1 + axis] - 1) * stride + reach - given[1 + axis]
            total = max(0, needed)
        before.append(total // 2)
        after.append(total - total // 2)
        strides.append(stride)
        dilations.append(dilation)
    found: dict[str, Any] = {"strides": strides, "pads": [*before, *after]}
    if any(one != 1 for one in dilations):
        found["dilations"] = dilations
    return found


def _windowed(
    writer: _Writer,
    operator: Operator,
    kind: str,
    kernel: tuple[int, int],
    more: Sequence[str] = (),
    **attributes: Any,
) -> None:
    shapes = writer.graph.shapes
    first = operator.inputs[0]
    image = writer.node("Transpose", [writer.tensor(first)], perm=_CHANNELS_FIRST)
    windows = _windows(operator, shapes[first], shapes[operator.output], kernel)
    made = writer.node(
        kind, [image, *more], kernel_shape=list(kernel), **windows, **attributes
    )
    writer.activated(operator, writer.node("Transpose", [made], perm=_CHANNELS_LAST))


def _bias(writer: _Writer, operator: Operator) -> list[str]:
    given = operator.inputs[2:]
    return [writer.tensor(one) for one in given if one != NO_INPUT]


def _convolution(writer: _Writer, operator: Operator) -> None:
    kernel = writer.graph.arrays[operator.inputs[1]]
    weights = writer.constant(np.ascontiguousarray(kernel.transpose(0, 3, 1, 2)))
    size = (kernel.shape[1], kernel.shape[2])
    more = [weights, *_bias(writer, operator)]
    _windowed(writer, operator, "Conv", size, more)


def _depthwise(writer: _Writer, operator: Operator) -> None:
    kernel = writer.graph.arrays[operator.inputs[1]]
    weights = writer.constant(np.ascontiguousarray(kernel.transpose(3, 0, 1, 2)))
    size = (kernel.shape[1], kernel.shape[2])
    channels = writer.graph.shapes[operator.inputs[0]][3]
    more = [weights, *_bias(writer, operator)]
    _windowed(writer, operator, "Conv", size, more, group=channels)


def _pool(writer: _Writer, operator: Operator) -> None:
    options = operator.options
    size = (int(options["filterHeight"]), int(options["filterWidth"]))
    if operator.kind == "MAX_POOL_2D":
        _windowed(writer, operator, "MaxPool", size)
    else:
        # Padding does not count as a pixel, there as here.
        _windowed(writer, operator, "AveragePool", size, count_include_pad=0)


def _dense(writer: _Writer, operator: Operator) -> None:
    inputs = [writer.tensor(one) for one in operator.inputs[:2]]
    inputs += _bias(writer, operator)
    writer.activated(operator, writer.node("Gemm", inputs, transB=1))


def _reduction(writer: _Writer, operator: Operator) -> None:
    kind = "ReduceMean" if operator.kind == "MEAN" else "ReduceMax"
    rank = len(writer.graph.shapes[operator.inputs[0]])
    axes = sorted({one % rank for one in writer.integers(operator.inputs[1])})
    keep = int(operator.options["keepDims"])
    name = writer.tensor(operator.inputs[0])
    writer.node(kind, [name], f"t{operator.output}", axes=axes, keepdims=keep)


def _reshape(writer: _Writer, operator: Operator) -> None:
    shape = writer.constant(np.array(writer.integers(operator.inputs[1]), np.int64))
    name = writer.tensor(operator.inputs[0])
    writer.node("Reshape", [name, shape], f"t{operator.output}")


def _padding(writer: _Writer, operator: Operator) -> None:
    around = np.array(writer.integers(operator.inputs[1]), np.int64).reshape(-1, 2)
    pads = writer.constant(np.ascontiguousarray(around.T).ravel())
    name = writer.tensor(operator.inputs[0])
    writer.node("Pad", [name, pads], f"t{operator.output}")


def _transposition(writer: _Writer, operator: Operator) -> None:
    order = writer.integers(operator.inputs[1])
    name = writer.tensor(operator.inputs[0])
    writer.node("Transpose", [name], f"t{operator.output}", perm=order)


def _join(writer: _Writer, operator: Operator) -> None:
    names = [writer.tensor(one) for one in operator.inputs]
    made = writer.node("Concat", names, axis=int(operator.options["axis"]))
    writer.activated(operator, made)


def _relu6(writer: _Writer, operator: Operator) -> None:
    name = writer.tensor(operator.inputs[0])
    limits = [writer.number(0.0), writer.number(6.0)]
    writer.node("Clip", [name, *limits], f"t{operator.output}")


def _leaky_relu(writer: _Writer, operator: Operator) -> None:
    name = writer.tensor(operator.inputs[0])
    alpha = float(operator.options["alpha"])
    writer.node("LeakyRelu", [name], f"t{operator.output}", alpha=alpha)


def _softmax(writer: _Writer, operator: Operator) -> None:
    name = writer.tensor(operator.inputs[0])
    writer.node("Softmax", [name], f"t{operator.output}", axis=-1)


def _rsqrt(writer: _Writer, operator: Operator) -> None:
    root = writer.node("Sqrt", [writer.tensor(operator.inputs[0])])
    writer.node("Reciprocal", [root], f"t{operator.output}")


def _squared_difference(writer: _Writer, operator: Operator) -> None:
    apart = writer.node("Sub", [writer.tensor(one) for one in operator.inputs])
    writer.node("Mul", [apart, apart], f"t{operator.output}")


_TRANSLATIONS: Mapping[str, Callable[[_Writer, Operator], None]] = {
    **dict.fromkeys(_SIMPLE, _simple),
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "AVERAGE_POOL_2D": _pool,
    "MAX_POOL_2D": _pool,
    "FULLY_CONNECTED": _dense,
    "MEAN": _reduction,
    "REDUCE_MAX": _reduction,
    "RESHAPE": _reshape,
    "PAD": _padding,
    "TRANSPOSE": _transposition,
    "CONCATENATION": _join,
    "RELU6": _relu6,
    "LEAKY_RELU": _leaky_relu,
    "SOFTMAX": _softmax,
    "RSQRT": _rsqrt,
    "SQUARED_DIFFERENCE": _squared_difference,
}


def _tensor(name: str, array: npt.NDArray[Any]) -> bytes:
    kind = np.float32 if array.dtype == np.float32 else np.int64
    data = np.ascontiguousarray(array, kind)
    sizes = b"".join(_number(1, size) for size in array.shape)
    code = _FLOAT if kind is np.float32 else _INT64
    return sizes + _number(2, code) + _text(8, name) + _part(9, data.tobytes())


def _attribute(name: str, value: Any) -> bytes:
    if isinstance(value, float):
        return _text(1, name) + b"\x15" + struct.pack("<f", value) + _number(20, 1)
    if isinstance(value, int):
        return _text(1, name) + _number(3, value) + _number(20, 2)
    numbers: Iterable[int] = value
    values = b"".join(_number(8, one) for one in numbers)
    return _text(1, name) + values + _number(20, 7)


def _number(tag: int, value: int) -> bytes:
    return _varint(tag << 3) + _varint(value)


def _text(tag: int, value: str) -> bytes:
    return _part(tag, value.encode("ascii"))


def _part(tag: int, value: bytes) -> bytes:
    return _varint(tag << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # a negative number is written as its complement
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)
