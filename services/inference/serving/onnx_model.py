"""The model as an ONNX graph, run by onnxruntime: tens of microseconds a row, without scikit-learn in memory."""

import numpy as np
import onnxruntime

from services.inference.serving.model import Probabilities, Rows
from shared.contracts.scoring import ModelFacts


class OnnxModel:
    """`model.onnx` of a bundle: one float32 input, n x columns; the last output is n x classes."""

    platform = "onnx_onnxv1"

    def __init__(self, content: bytes, facts: ModelFacts) -> None:
        """Build the graph from `content`. Raises onnxruntime's errors if it cannot run the graph."""
        self.facts = facts
        onnxruntime.disable_telemetry_events()  # no data leaves the clinic
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # replicas share the cores, calls do not
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._outputs = [self._session.get_outputs()[-1].name]

    def probabilities(self, rows: Rows) -> Probabilities:
        """Compute the probabilities of `rows`."""
        probabilities: Probabilities = self._session.run(self._outputs, {self._input: rows})[0].astype(np.float64)
        return probabilities
