"""Ray Serve: `python -m bench.suites.field.serving.with_ray PORT MODEL`."""

import signal
import sys
from pathlib import Path

import numpy as np
import ray
from ray import serve
from starlette.requests import Request

from bench.suites.field.serving.predictor import Rows, as_row, predictor

BATCH, WAIT_SECONDS = 64, 0.002


@serve.deployment(max_ongoing_requests=256)
class Thyroid:
    """Rows of concurrent requests go to the model in one call."""

    def __init__(self, model: str) -> None:
        self.predict_proba = predictor(Path(model))

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=WAIT_SECONDS)
    async def together(self, rows: list[Rows]) -> list[list[float]]:
        """Compute the probabilities of all rows."""
        return self.predict_proba(np.stack(rows)).tolist()  # type: ignore[no-any-return]

    async def __call__(self, request: Request) -> dict[str, list[float]]:
        """Answer one request."""
        body = await request.json()
        return {"probabilities": await self.together(as_row(body["row"]))}


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # taken below; Ray's own handler prints a traceback
    ray.init(include_dashboard=False, log_to_driver=False)
    serve.start(
        http_options={"host": "127.0.0.1", "port": int(sys.argv[1])},
        logging_config={"enable_access_log": False},
    )
    serve.run(Thyroid.bind(sys.argv[2]))  # type: ignore[attr-defined] # the decorator gives it
    signal.sigwait({signal.SIGTERM})
    ray.shutdown()
