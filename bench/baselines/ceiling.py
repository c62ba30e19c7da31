"""The ceiling: FastAPI as in its documentation, with the same validation and response, and no other work."""

import os
import sys

import uvicorn
from fastapi import FastAPI

from services.gateway.api.answers import Modelo, Respuesta
from shared.patient import Disease, Patient, load_patient

PATIENT = "shared.diseases.thyroid:DatosPaciente"


def create_app(patient: type[Patient]) -> FastAPI:
    """Return the application: one route that validates a `patient` and sends a constant response."""
    app = FastAPI()
    answer = _answer(patient.disease)

    @app.get("/health/ready")
    async def ready() -> str:
        return "ok"

    async def predecir(datos: Patient) -> Respuesta:
        del datos
        return answer

    predecir.__annotations__["datos"] = patient  # the class is known only at run time
    app.post("/predecir")(predecir)
    return app


def _answer(disease: Disease) -> Respuesta:
    first, label = disease.diagnoses[0].code, disease.diagnoses[0].label
    return Respuesta(
        id="01890a5d-ac96-774b-bcce-b302099a8057",
        prediccion=first,
        etiqueta=label,
        probabilidad=0.9,
        probabilidades=dict.fromkeys(disease.classes, 0.9),
        plausibles=[first],
        concluyente=True,
        prevalencia=0.5,
        baja_prevalencia=False,
        modelo=Modelo(nombre=disease.name, version="1"),
        avisos=[],
    )


if __name__ == "__main__":
    patient_class = load_patient(os.environ.get("PREDECIR_PACIENTE", PATIENT))
    uvicorn.run(create_app(patient_class), port=int(sys.argv[1]), loop="uvloop", http="httptools", log_level="error")
