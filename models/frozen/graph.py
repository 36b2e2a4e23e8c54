"""A frozen network: operators in the order in which they run, and their arrays.

The file is an `.npz`: `graph` is JSON (what runs, in which order), the other entries
are the arrays. Everything in it is checked before anything is built of it: operators
and options against the table, the order against itself, each shape by calculation.
"""

import io
import json
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core.errors import InvalidBundle
from models.frozen.operators import OPERATORS, Operand, OperatorKind, Shape

__all__ = ["FROZEN_NAME", "FrozenGraph", "Operator", "read_frozen"]

FROZEN_NAME = "frozen.npz"
NO_INPUT = -1
_FORMAT = 1
_GRAPH = "graph"
_LARGEST_GRAPH_BYTES = 4 * 2**20
_LARGEST_BYTES = 2 * 2**30
_LARGEST_TENSOR = 2**28
_MOST_TENSORS = 20_000

_Index = Annotated[int, Field(ge=NO_INPUT, lt=_MOST_TENSORS)]


class Operator(BaseModel):
    """One calculation."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Annotated[str, Field(max_length=64)]
    """Name in `OPERATORS`."""
    version: Annotated[int, Field(ge=1, le=16)] = 1
    """Of the operator's own definition in the LiteRT operator set."""
    inputs: Annotated[tuple[_Index, ...], Field(max_length=64)]
    """Tensors; `NO_INPUT` stands for one that is left out."""
    output: Annotated[int, Field(ge=0, lt=_MOST_TENSORS)]
    options: dict[str, float] = {}


class _Description(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: Literal[1]
    input: Annotated[int, Field(ge=0, lt=_MOST_TENSORS)]
    outputs: Annotated[tuple[_Index, ...], Field(min_length=1, max_length=2)]
    operators: Annotated[tuple[Operator, ...], Field(max_length=_MOST_TENSORS)]


@dataclass(frozen=True, eq=False)
class FrozenGraph:
    """A network that has passed the checks of this module."""

    input: int
    """Tensor that takes one image."""
    outputs: tuple[int, ...]
    """Tensors of the logits and, if the bundle has a guard of scope, the features."""
    operators: tuple[Operator, ...]
    arrays: Mapping[int, npt.NDArray[Any]]
    """float32, or int32 for shapes, axes and orders; by tensor."""
    shapes: Mapping[int, Shape]
    """Of every tensor, for one image."""

    def to_bytes(self) -> bytes:
        """Write the file that a bundle holds."""
        text = json.dumps(
            {
                "format": _FORMAT,
                "input": self.input,
                "outputs": list(self.outputs),
                "operators": [one.model_dump(mode="json") for one in self.operators],
            }
        )
        target = io.BytesIO()
        named: dict[str, Any] = {f"t{n}": array for n, array in self.arrays.items()}
        named[_GRAPH] = np.frombuffer(text.encode("ascii"), np.uint8)
        np.savez_compressed(target, **named)
        return target.getvalue()


def read_frozen(
    path: Path, *, input_shape: tuple[int, ...], outputs: int, features: int | None
) -> FrozenGraph:
    """Read and check a frozen network.

    Parameters
    ----------
    path
        The `.npz`.
    input_shape
        (rows, columns, channels) of the one image it must take.
    outputs
        Logits it must give.
    features
        Length of its second output; None if there must be none.

    Raises
    ------
    InvalidBundle
        If it is damaged, too large, names an operator or option that is not on the
        table, is not in order, or does not have the stated input and outputs.
    """
    text, arrays = _read_arrays(path)
    try:
        description = _Description.model_validate_json(text)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, fault["loc"]))
        raise InvalidBundle(
            f"{path.name} describes no frozen network ({place}: {fault['msg']}). Pack "
            "the bundle again."
        ) from error
    try:
        return checked_graph(
            input_tensor=description.input,
            outputs=description.outputs,
            operators=description.operators,
            arrays=arrays,
            input_shape=input_shape,
            output_lengths=(outputs,) if features is None else (outputs, features),
        )
    except InvalidBundle as error:
        raise InvalidBundle(
            f"{path.name} cannot be served: {error}. Pack the bundle again."
        ) from error


def checked_graph(
    *,
    input_tensor: int,
    outputs: tuple[int, ...],
    operators: tuple[Operator, ...],
    arrays: Mapping[int, npt.NDArray[Any]],
    input_shape: tuple[int, ...],
    output_lengths: tuple[int, ...],
) -> FrozenGraph:
    """Check that operators and arrays make a network, and work out its shapes.

    Parameters
    ----------
    input_tensor, outputs, operators, arrays
        As in `FrozenGraph`.
    input_shape
        (rows, columns, channels).
    output_lengths
        Numbers an image of each output.

    Raises
    ------
    InvalidBundle
        With the first thing that is wrong.
    """
    known = {number: Operand(array.shape, array) for number, array in arrays.items()}
    if input_tensor in known:
        raise InvalidBundle("its input is a constant")
    known[input_tensor] = Operand((1, *input_shape))
    for number, operator in enumerate(operators):
        kind = _kind(number, operator)
        try:
            given = [None if i == NO_INPUT else known[i] for i in operator.inputs]
        except KeyError as error:
            raise InvalidBundle(
                f"operator {number} takes tensor {error}, which nothing before it made"
            ) from error
        shape = kind.shape(given, operator.options)
        if operator.output in known or math.prod(shape) > _LARGEST_TENSOR:
            raise InvalidBundle(
                f"operator {number} makes tensor {operator.output} of shape {shape} a "
                "second time or too large"
            )
        known[operator.output] = Operand(shape)
    found = [known[one].shape if one in known else None for one in outputs]
    wanted = [(1, length) for length in output_lengths]
    if found != wanted or set(outputs) & set(arrays):
        raise InvalidBundle(f"its outputs are {found}, not {wanted}")
    shapes = {number: operand.shape for number, operand in known.items()}
    return FrozenGraph(input_tensor, outputs, operators, arrays, shapes)


def _kind(number: int, operator: Operator) -> OperatorKind:
    kind = OPERATORS.get(operator.kind)
    if kind is None:
        raise InvalidBundle(
            f"operator {number} is {operator.kind!r}, which is not on the list"
        )
    least, most = kind.inputs
    if not least <= len(operator.inputs) <= most:
        raise InvalidBundle(
            f"operator {number} ({operator.kind}) has {len(operator.inputs)} inputs"
        )
    if set(operator.options) != set(kind.options):
        raise InvalidBundle(
            f"operator {number} ({operator.kind}) has the options "
            f"{sorted(operator.options)}, not {sorted(kind.options)}"
        )
    for name, (low, high) in kind.options.items():
        value = operator.options[name]
        whole = value == int(value) or name == "alpha"
        if not low <= value <= high or not whole:
            raise InvalidBundle(
                f"operator {number} ({operator.kind}) has {name} = {value}; "
                f"{low:g} to {high:g} is accepted"
            )
    return kind


def _read_arrays(path: Path) -> tuple[bytes, dict[int, npt.NDArray[Any]]]:
    try:
        with zipfile.ZipFile(path) as archive:
            inflated = sum(entry.file_size for entry in archive.infolist())
        if inflated > _LARGEST_BYTES:
            raise InvalidBundle(
                f"{path.name} would inflate to {inflated} bytes; at most "
                f"{_LARGEST_BYTES} are accepted."
            )
        # allow_pickle=False: an object array would run code while it is read.
        with np.load(path, allow_pickle=False) as file:
            text = np.asarray(file[_GRAPH])
            arrays = {
                int(name.removeprefix("t")): np.ascontiguousarray(file[name])
                for name in file.files
                if name != _GRAPH
            }
    except (OSError, KeyError, ValueError, MemoryError, zipfile.BadZipFile) as error:
        raise InvalidBundle(
            f"{path.name} holds no readable frozen network ({error}). Pack the bundle "
            "again."
        ) from error
    if text.dtype != np.uint8 or text.ndim != 1 or text.size > _LARGEST_GRAPH_BYTES:
        raise InvalidBundle(
            f"{path.name} has no description of at most {_LARGEST_GRAPH_BYTES} bytes. "
            "Pack the bundle again."
        )
    for number, array in arrays.items():
        if (
            not 0 <= number < _MOST_TENSORS
            or array.dtype not in (np.float32, np.int32)
            or not np.isfinite(array).all()
        ):
            raise InvalidBundle(
                f"{path.name} has an array t{number} of {array.dtype} that is no "
                "finite float32 or int32. Pack the bundle again."
            )
    return text.tobytes(), arrays
