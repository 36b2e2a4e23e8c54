"""LiteRT (extra `litert`): runs a bundle's frozen graph, without TensorFlow.

It needs a tenth of a second to start and some 30 MB, where TensorFlow needs seconds and
some hundred MB. What it reads is written here, from a graph that has been checked.
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from models.frozen.graph import FrozenGraph
from models.frozen.operators import OPERATORS
from models.runtimes.seam import FloatArray

__all__ = ["LiteRtRuntime", "flatbuffer"]

_SCHEMA_VERSION = 3
_FILE_IDENTIFIER = b"TFL3"
_ALIGNMENT = 16
# Numbers above this stand in `builtinCode` alone (schema.fbs, OperatorCode).
_LARGEST_OLD_CODE = 127
_GREETING = b"INFO: Created TensorFlow Lite"
_TYPES = {np.dtype(np.float32): 0, np.dtype(np.int32): 2}


class LiteRtRuntime:
    """A frozen graph in LiteRT.

    Parameters
    ----------
    graph
        Checked.
    threads
        Cores that one operation may use.

    Raises
    ------
    ImportError
        If the extra is not installed.
    ValueError, RuntimeError
        If LiteRT does not take the graph.
    """

    name = "litert"
    # Measured: eight images at once take eight times as long as one.
    largest_batch = 1

    def __init__(self, graph: FrozenGraph, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415

        with _without_greeting():
            self._interpreter = Interpreter(
                model_content=flatbuffer(graph), num_threads=threads
            )
            self._interpreter.allocate_tensors()
        (given,) = self._interpreter.get_input_details()
        self._input = given["index"]
        self._outputs = [one["index"] for one in self._interpreter.get_output_details()]

    def run(self, batch: FloatArray) -> Sequence[npt.NDArray[Any]]:
        """Calculate; see `Runtime.run`."""
        self._interpreter.set_tensor(self._input, batch)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index) for index in self._outputs]


def flatbuffer(graph: FrozenGraph) -> bytes:
    """Write a checked graph in the form that LiteRT reads."""
    import flatbuffers  # noqa: PLC0415
    from ai_edge_litert import schema_py_generated as schema  # noqa: PLC0415

    numbers = {tensor: index for index, tensor in enumerate(sorted(graph.shapes))}
    model = schema.ModelT()
    model.version = _SCHEMA_VERSION
    model.description = "secondread"
    # Buffer 0 is by definition the empty one.
    model.buffers = [schema.BufferT()]
    part = schema.SubGraphT()
    part.name = "main"
    part.tensors = []
    for tensor in sorted(graph.shapes):
        array = graph.arrays.get(tensor)
        one = schema.TensorT()
        one.name = f"t{tensor}"
        one.shape = np.array(graph.shapes[tensor], np.int32)
        one.type = 0 if array is None else _TYPES[array.dtype]
        one.hasRank = True
        one.buffer = 0
        if array is not None:
            one.buffer = len(model.buffers)
            buffer = _AlignedBuffer()
            buffer.data = np.ascontiguousarray(array).view(np.uint8).reshape(-1)
            model.buffers.append(buffer)
        part.tensors.append(one)
    part.inputs = np.array([numbers[graph.input]], np.int32)
    part.outputs = np.array([numbers[one] for one in graph.outputs], np.int32)
    kinds = sorted({(one.kind, one.version) for one in graph.operators})
    model.operatorCodes = [_code(schema, kind, version) for kind, version in kinds]
    part.operators = [
        _operator(schema, one, kinds.index((one.kind, one.version)), numbers)
        for one in graph.operators
    ]
    model.subgraphs = [part]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=_FILE_IDENTIFIER)
    return bytes(builder.Output())


@contextmanager
def _without_greeting() -> Iterator[None]:
    """Keep one line, which LiteRT writes whatever it is told, out of the log."""
    kept = os.dup(2)
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            written.seek(0)
            for line in written:
                if not line.startswith(_GREETING):
                    os.write(2, line)


class _AlignedBuffer:
    """A buffer whose numbers begin where vector instructions want them."""

    data: npt.NDArray[np.uint8]

    def Pack(self, builder: Any) -> Any:  # noqa: N802 - the generated classes' name
        from ai_edge_litert import schema_py_generated as schema  # noqa: PLC0415

        size = len(self.data)
        builder.StartVector(1, size, _ALIGNMENT)
        builder.head = builder.Head() - size
        builder.Bytes[builder.Head() : builder.Head() + size] = self.data.tobytes()
        vector = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, vector)
        return schema.BufferEnd(builder)


def _code(schema: Any, kind: str, version: int) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode = OPERATORS[kind].code
    code.deprecatedBuiltinCode = min(code.builtinCode, _LARGEST_OLD_CODE)
    code.version = version
    return code


def _operator(schema: Any, one: Any, code: int, numbers: dict[int, int]) -> Any:
    made = schema.OperatorT()
    made.opcodeIndex = code
    made.inputs = np.array([numbers.get(i, -1) for i in one.inputs], np.int32)
    made.outputs = np.array([numbers[one.output]], np.int32)
    table = OPERATORS[one.kind].table
    if table is not None:
        options = getattr(schema, f"{table}T")()
        for name, value in one.options.items():
            kind = type(getattr(options, name))
            setattr(options, name, kind(value))
        made.builtinOptionsType = getattr(schema.BuiltinOptions, table)
        made.builtinOptions = options
    return made
