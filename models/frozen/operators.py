"""The table of calculations that a frozen graph may hold; nothing else passes.

Each operator has the number that LiteRT knows it by, the options it takes with their
ranges, and a rule that gives the shape of its output or refuses its inputs. Shapes are
never read from a file: they follow from the input, the arrays and these rules.

Source
------
Names, numbers and meaning: the LiteRT operator set (schema.fbs, BuiltinOperator).
Images are (1, rows, columns, channels).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from core.errors import InvalidBundle

__all__ = ["OPERATORS", "Operand", "OperatorKind", "Shape"]

Shape = tuple[int, ...]
Options = Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Operand:
    """One input of an operator."""

    shape: Shape
    array: npt.NDArray[Any] | None = None
    """Its values if they are part of the graph."""

    def integers(self) -> list[int]:
        """Return the values of a constant that says how, not what, to calculate."""
        if self.array is None or self.array.dtype != np.int32 or self.array.size > 8:
            raise InvalidBundle("an operator's shape, axes or order must be constant")
        return [int(value) for value in self.array.ravel()]


@dataclass(frozen=True)
class OperatorKind:
    """What is known of one operator."""

    code: int
    """Its number in LiteRT's operator set."""
    table: str | None
    """Name of its table of options in LiteRT's schema, without the final `T`."""
    options: Mapping[str, tuple[float, float]]
    """Each option with the least and the largest accepted value."""
    inputs: tuple[int, int]
    """How many it takes, from and to."""
    shape: Callable[[Sequence[Operand | None], Options], Shape]
    """Gives the output's shape, or raises InvalidBundle."""


def _fault(words: str) -> InvalidBundle:
    return InvalidBundle(words)


def _given(inputs: Sequence[Operand | None], number: int) -> Operand:
    found = inputs[number] if number < len(inputs) else None
    if found is None:
        raise _fault("an operator lacks an input that it needs")
    return found


def _image(operand: Operand) -> tuple[int, int, int, int]:
    if len(operand.shape) != 4:
        raise _fault(f"an image of shape {operand.shape} is not (n, y, x, channels)")
    count, rows, columns, channels = operand.shape
    return count, rows, columns, channels


def _windows(size: int, kernel: int, stride: int, *, same: bool) -> int:
    count = math.ceil(size / stride) if same else (size - kernel) // stride + 1
    if count < 1:
        raise _fault(f"a window of {kernel} does not fit into {size} pixels")
    return count


def _check_bias(inputs: Sequence[Operand | None], channels: int) -> None:
    bias = inputs[2] if len(inputs) > 2 else None
    if bias is not None and bias.shape != (channels,):
        raise _fault(f"a bias of shape {bias.shape} does not fit {channels} channels")


def _convolved(
    image: Operand, options: Options, kernel_rows: int, kernel_columns: int
) -> tuple[int, int]:
    _, rows, columns, _ = _image(image)
    same = options["padding"] == 0
    tall = (kernel_rows - 1) * int(options["dilationHFactor"]) + 1
    wide = (kernel_columns - 1) * int(options["dilationWFactor"]) + 1
    return (
        _windows(rows, tall, int(options["strideH"]), same=same),
        _windows(columns, wide, int(options["strideW"]), same=same),
    )


def _conv_2d(inputs: Sequence[Operand | None], options: Options) -> Shape:
    image, kernel = _given(inputs, 0), _given(inputs, 1)
    count, _, _, channels = _image(image)
    filters, tall, wide, depth = _image(kernel)
    if depth != channels or kernel.array is None:
        raise _fault(f"a kernel {kernel.shape} does not fit {channels} channels")
    _check_bias(inputs, filters)
    return (count, *_convolved(image, options, tall, wide), filters)


def _depthwise(inputs: Sequence[Operand | None], options: Options) -> Shape:
    image, kernel = _given(inputs, 0), _given(inputs, 1)
    count, _, _, channels = _image(image)
    one, tall, wide, depth = _image(kernel)
    if (one, depth) != (1, channels * int(options["depthMultiplier"])):
        raise _fault(f"a depthwise kernel {kernel.shape} does not fit {channels}")
    if kernel.array is None:
        raise _fault("a kernel must be constant")
    _check_bias(inputs, depth)
    return (count, *_convolved(image, options, tall, wide), depth)


def _fully_connected(inputs: Sequence[Operand | None], _options: Options) -> Shape:
    given, weights = _given(inputs, 0), _given(inputs, 1)
    if (
        len(given.shape) != 2
        or len(weights.shape) != 2
        or given.shape[1] != weights.shape[1]
        or weights.array is None
    ):
        raise _fault(f"weights {weights.shape} do not fit {given.shape}")
    _check_bias(inputs, weights.shape[0])
    return (given.shape[0], weights.shape[0])


def _both(inputs: Sequence[Operand | None], _options: Options) -> Shape:
    first, second = _given(inputs, 0), _given(inputs, 1)
    try:
        return tuple(np.broadcast_shapes(first.shape, second.shape))
    except ValueError as error:
        raise _fault(f"{first.shape} and {second.shape} do not go together") from error


def _each(inputs: Sequence[Operand | None], _options: Options) -> Shape:
    return _given(inputs, 0).shape


def _prelu(inputs: Sequence[Operand | None], options: Options) -> Shape:
    if _both(inputs, options) != _given(inputs, 0).shape:
        raise _fault("slopes larger than what they are applied to")
    return _given(inputs, 0).shape


def _reduced(inputs: Sequence[Operand | None], options: Options) -> Shape:
    given = _given(inputs, 0)
    axes = {axis % len(given.shape) for axis in _given(inputs, 1).integers()}
    # The images of a batch must not mix.
    if 0 in axes or not given.shape:
        raise _fault("a reduction over the batch")
    kept = bool(options["keepDims"])
    sizes = [
        1 if axis in axes else size
        for axis, size in enumerate(given.shape)
        if kept or axis not in axes
    ]
    return tuple(sizes)


def _pooled(inputs: Sequence[Operand | None], options: Options) -> Shape:
    count, rows, columns, channels = _image(_given(inputs, 0))
    same = options["padding"] == 0
    height = int(options["filterHeight"])
    width = int(options["filterWidth"])
    return (
        count,
        _windows(rows, height, int(options["strideH"]), same=same),
        _windows(columns, width, int(options["strideW"]), same=same),
        channels,
    )


def _reshaped(inputs: Sequence[Operand | None], _options: Options) -> Shape:
    given, wanted = _given(inputs, 0), _given(inputs, 1).integers()
    if any(size < 1 for size in wanted) or math.prod(wanted) != math.prod(given.shape):
        raise _fault(f"{given.shape} does not become {wanted}")
    return tuple(wanted)


def _joined(inputs: Sequence[Operand | None], options: Options) -> Shape:
    parts = [_given(inputs, number).shape for number in range(len(inputs))]
    rank = len(parts[0])
    axis = int(options["axis"]) % max(rank, 1)
    others = {(*part[:axis], *part[axis + 1 :]) for part in parts}
    if len(others) != 1 or any(len(part) != rank for part in parts):
        raise _fault(f"{parts} cannot be joined")
    total = sum(part[axis] for part in parts)
    return (*parts[0][:axis], total, *parts[0][axis + 1 :])


def _padded(inputs: Sequence[Operand | None], _options: Options) -> Shape:
    given, around = _given(inputs, 0), _given(inputs, 1)
    sizes = around.integers()
    if around.shape != (len(given.shape), 2) or any(not 0 <= n <= 256 for n in sizes):
        raise _fault(f"a padding of {sizes} around {given.shape}")
    return tuple(
        size + sizes[2 * axis] + sizes[2 * axis + 1]
        for axis, size in enumerate(given.shape)
    )


def _transposed(inputs: Sequence[Operand | None], _options: Options) -> Shape:
    given, order = _given(inputs, 0), _given(inputs, 1).integers()
    if sorted(order) != list(range(len(given.shape))):
        raise _fault(f"{order} is no order of {len(given.shape)} axes")
    return tuple(given.shape[axis] for axis in order)


# None, ReLU and ReLU6; the set's numbers.
_FUSED = {"fusedActivationFunction": (0, 3)}
_PADDING = {"padding": (0, 1)}  # 0 is "same", 1 "valid"
_STRIDES = {"strideH": (1, 64), "strideW": (1, 64)}
_DILATION = {"dilationHFactor": (1, 64), "dilationWFactor": (1, 64)}
_WINDOW = {"filterHeight": (1, 512), "filterWidth": (1, 512)}
_CONVOLUTION = {**_PADDING, **_STRIDES, **_DILATION, **_FUSED}
_POOL = {**_PADDING, **_STRIDES, **_WINDOW, **_FUSED}

OPERATORS: Mapping[str, OperatorKind] = MappingProxyType(
    {
        "ADD": OperatorKind(0, "AddOptions", _FUSED, (2, 2), _both),
        "AVERAGE_POOL_2D": OperatorKind(1, "Pool2DOptions", _POOL, (1, 1), _pooled),
        "CONCATENATION": OperatorKind(
            2, "ConcatenationOptions", {"axis": (-4, 4), **_FUSED}, (1, 64), _joined
        ),
        "CONV_2D": OperatorKind(3, "Conv2DOptions", _CONVOLUTION, (2, 3), _conv_2d),
        "DEPTHWISE_CONV_2D": OperatorKind(
            4,
            "DepthwiseConv2DOptions",
            {"depthMultiplier": (1, 64), **_CONVOLUTION},
            (2, 3),
            _depthwise,
        ),
        "FULLY_CONNECTED": OperatorKind(
            9, "FullyConnectedOptions", _FUSED, (2, 3), _fully_connected
        ),
        "LOGISTIC": OperatorKind(14, None, {}, (1, 1), _each),
        "MAX_POOL_2D": OperatorKind(17, "Pool2DOptions", _POOL, (1, 1), _pooled),
        "MUL": OperatorKind(18, "MulOptions", _FUSED, (2, 2), _both),
        "RELU": OperatorKind(19, None, {}, (1, 1), _each),
        "RELU6": OperatorKind(21, None, {}, (1, 1), _each),
        "RESHAPE": OperatorKind(22, None, {}, (2, 2), _reshaped),
        "SOFTMAX": OperatorKind(
            25, "SoftmaxOptions", {"beta": (1.0, 1.0)}, (1, 1), _each
        ),
        "TANH": OperatorKind(28, None, {}, (1, 1), _each),
        "PAD": OperatorKind(34, None, {}, (2, 2), _padded),
        "TRANSPOSE": OperatorKind(39, None, {}, (2, 2), _transposed),
        "MEAN": OperatorKind(
            40, "ReducerOptions", {"keepDims": (0, 1)}, (2, 2), _reduced
        ),
        "SUB": OperatorKind(41, "SubOptions", _FUSED, (2, 2), _both),
        "DIV": OperatorKind(42, "DivOptions", _FUSED, (2, 2), _both),
        "PRELU": OperatorKind(54, None, {}, (2, 2), _prelu),
        "MAXIMUM": OperatorKind(55, None, {}, (2, 2), _both),
        "MINIMUM": OperatorKind(57, None, {}, (2, 2), _both),
        "RSQRT": OperatorKind(76, None, {}, (1, 1), _each),
        "REDUCE_MAX": OperatorKind(
            82, "ReducerOptions", {"keepDims": (0, 1)}, (2, 2), _reduced
        ),
        "LEAKY_RELU": OperatorKind(
            98, "LeakyReluOptions", {"alpha": (0.0, 1.0)}, (1, 1), _each
        ),
        "SQUARED_DIFFERENCE": OperatorKind(99, None, {}, (2, 2), _both),
        "ELU": OperatorKind(111, None, {}, (1, 1), _each),
    }
)
"""By the names of the LiteRT operator set."""
