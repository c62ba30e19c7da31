"""Saving of an ONNX file as an MLflow model: `python -m bench.suites.field.serving.save_for_mlflow MODEL FOLDER`."""

import sys

import mlflow.onnx
import numpy as np
import onnx
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

if __name__ == "__main__":
    model = onnx.load(sys.argv[1])
    columns = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    mlflow.onnx.save_model(
        model,
        sys.argv[2],
        # A tensor: with a data frame as input MLflow cannot return two outputs of different widths.
        signature=ModelSignature(Schema([TensorSpec(np.dtype(np.float32), (-1, columns))])),
        onnx_session_options={"intra_op_num_threads": 1, "inter_op_num_threads": 1},
    )
