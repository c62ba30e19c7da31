"""The model: fitting, calibration, conversion to ONNX, prediction and latency."""
