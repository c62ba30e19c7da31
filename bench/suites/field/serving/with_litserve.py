"""LitServe: `python -m bench.suites.field.serving.with_litserve PORT MODEL`."""

import sys
from pathlib import Path
from typing import Any

import litserve
import numpy as np

from bench.suites.field.serving.predictor import Predict, Rows, as_row, predictor

BATCH, WAIT_SECONDS = 64, 0.002


class Thyroid(litserve.LitAPI):
    """Rows of concurrent requests go to the model in one call."""

    predict_proba: Predict

    def setup(self, device: str) -> None:
        """Load the model, once per worker."""
        del device
        self.predict_proba = predictor(Path(sys.argv[2]))

    def decode_request(self, request: dict[str, Any]) -> Rows:
        """Return the row of a request."""
        return as_row(request["row"])

    def batch(self, inputs: list[Rows]) -> Rows:
        """Return the rows as one batch."""
        return np.stack(inputs)

    def predict(self, x: Rows) -> Any:  # noqa: ANN401 - LitServe's signature
        """Compute the probabilities of all rows."""
        return self.predict_proba(x)

    def unbatch(self, output: Any) -> list[list[float]]:  # noqa: ANN401 - LitServe's signature
        """Return the probabilities of each request."""
        return output.tolist()  # type: ignore[no-any-return]

    def encode_response(self, output: list[float]) -> dict[str, list[float]]:
        """Return the response."""
        return {"probabilities": output}


if __name__ == "__main__":
    server = litserve.LitServer(
        Thyroid(max_batch_size=BATCH, batch_timeout=WAIT_SECONDS), accelerator="cpu", fast_queue=True
    )
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="error", generate_client_file=False)
