"""MLServer: a custom inference runtime, as its documentation writes one, for the ONNX file."""

from pathlib import Path

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from bench.suites.field.serving.predictor import Predict, predictor


class OnnxModel(MLModel):
    """Rows in, probabilities out."""

    predict_proba: Predict

    async def load(self) -> bool:
        """Load the model."""
        self.predict_proba = predictor(Path(self.settings.parameters.uri))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Return the response to one request or to a batch of them."""
        rows = NumpyCodec.decode_input(payload.inputs[0])
        output = NumpyCodec.encode_output("predict_proba", self.predict_proba(rows))
        return InferenceResponse(model_name=self.name, outputs=[output])
