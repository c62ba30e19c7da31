"""The simplest design, literally: FastAPI, an unpickled pipeline, and a `BackgroundTasks` insert into SQLite.

Most tutorials build this. Same trained model, same validation; no batching, and an answer is sent before it is stored.
"""

import json
import pickle
import sqlite3
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from fastapi import BackgroundTasks, FastAPI

from shared.diseases.thyroid import DatosPaciente


def create_app(model: Any, database: str) -> FastAPI:  # noqa: ANN401 - whatever was pickled
    """Return the application around `model`; it inserts into the SQLite file `database`."""
    app = FastAPI()
    with sqlite3.connect(database) as connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS predicciones "
            "(id INTEGER PRIMARY KEY, timestamp TEXT, inputs TEXT, output TEXT, probabilidad REAL)"
        )

    def record(inputs: str, output: str, probability: float) -> None:
        with sqlite3.connect(database) as connection:
            connection.execute(
                "INSERT INTO predicciones (timestamp, inputs, output, probabilidad) VALUES (?, ?, ?, ?)",
                (datetime.now(UTC).isoformat(), inputs, output, probability),
            )

    @app.get("/health/ready")
    async def ready() -> str:
        return "ok"

    @app.post("/predecir")
    def predecir(datos: DatosPaciente, background_tasks: BackgroundTasks) -> dict[str, Any]:
        probabilities = model.predict_proba(np.array([datos.encode()], dtype=np.float32))[0]
        best = int(probabilities.argmax())
        output, probability = DatosPaciente.disease.classes[best], float(probabilities[best])
        background_tasks.add_task(record, json.dumps(datos.model_dump()), output, probability)
        return {"prediccion": output, "probabilidad": probability}

    return app


if __name__ == "__main__":
    with Path(sys.argv[2]).open("rb") as file:
        # Our own, just trained on this machine. The product never unpickles an unverified file.
        trained = pickle.load(file)  # noqa: S301
    uvicorn.run(
        create_app(trained, "predicciones.db"),
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        log_level="error",
    )
