"""ONNX Runtime (extra `onnx`): runs a bundle's frozen graph, without TensorFlow."""

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from models.frozen.graph import FrozenGraph
from models.runtimes.onnx_graph import onnx_model
from models.runtimes.seam import FloatArray

__all__ = ["OnnxRuntime"]

# Only errors: it warns of optimisations that it cannot make.
_SEVERITY = 3


class OnnxRuntime:
    """A frozen graph in ONNX Runtime.

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
        If ONNX Runtime does not take the graph.
    """

    name = "onnx"
    # Measured on a processor: eight images at once take eight times as long as one.
    largest_batch = 1

    def __init__(self, graph: FrozenGraph, threads: int) -> None:
        import onnxruntime  # noqa: PLC0415

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _SEVERITY
        # Its threads must not spin for the next image: a decoder wants their core.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                onnx_model(graph), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # noqa: BLE001 - its classes have no common base
            raise RuntimeError(str(error).split("\n")[0][:200]) from error
        self._input = f"t{graph.input}"
        self._outputs = [f"t{one}" for one in graph.outputs]

    def run(self, batch: FloatArray) -> Sequence[npt.NDArray[Any]]:
        """Calculate; see `Runtime.run`."""
        found: list[npt.NDArray[Any]] = self._session.run(
            self._outputs, {self._input: batch}
        )
        return found
