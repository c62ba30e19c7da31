"""Content of an answer: the most probable diagnosis, its probability, and remarks on the data."""

from typing import Any

from pydantic import BaseModel, Field

from shared.contracts.scoring import ModelFacts, Score
from shared.patient import Patient, Remark
from shared.web.problems import between


class Modelo(BaseModel):
    """El modelo que calculó la respuesta."""

    nombre: str
    version: str


class Aviso(BaseModel):
    """Algo que conviene comprobar en los datos enviados."""

    campo: str
    codigo: str
    mensaje: str


class Respuesta(BaseModel):
    """El diagnóstico más probable para un paciente."""

    id: str = Field(description="Identificador de la predicción, para consultarla después.")
    prediccion: str = Field(description="Código del diagnóstico más probable.")
    etiqueta: str = Field(description="El diagnóstico en palabras.")
    probabilidad: float = Field(description="Probabilidad de ese diagnóstico, entre 0 y 1.")
    probabilidades: dict[str, float] = Field(description="Probabilidad de cada diagnóstico posible.")
    plausibles: list[str] = Field(
        description="Diagnósticos que no se pueden descartar, del más al menos probable; el primero es el respondido."
    )
    concluyente: bool = Field(description="Si solo hay un diagnóstico plausible.")
    prevalencia: float = Field(description="Parte de los casos de entrenamiento con ese diagnóstico, entre 0 y 1.")
    baja_prevalencia: bool = Field(description="Si el diagnóstico es poco frecuente en los datos de entrenamiento.")
    modelo: Modelo
    avisos: list[Aviso] = Field(description="Valores fuera de rango o contradictorios, sin repetir el valor.")


class Answers:
    """Makes answers for one patient class; parts that do not depend on the patient are prepared once."""

    def __init__(self, patient: type[Patient]) -> None:
        """Prepare labels and the remarks on reference ranges of `patient`."""
        self._labels = {diagnosis.code: diagnosis.label for diagnosis in patient.disease.diagnoses}
        self._features = {f.name: f for f in patient.features}
        self._references = [
            (f.name, *f.reference, self._outside(f.name, "fuera_de_referencia", "del rango de referencia", f.reference))
            for f in patient.features
            if f.reference is not None
        ]
        self._trained: tuple[str, list[tuple[str, float, float, dict[str, str]]]] = ("", [])

    def make(self, answer_id: str, patient: Patient, score: Score) -> dict[str, Any]:
        """Return the content of a `Respuesta`."""
        model, probabilities = score.model, score.probabilities
        best = max(range(len(probabilities)), key=probabilities.__getitem__)
        code = model.classes[best]
        plausible = _plausible(score, best)
        return {
            "id": answer_id,
            "prediccion": code,
            "etiqueta": self._labels[code],
            "probabilidad": probabilities[best],
            "probabilidades": dict(zip(model.classes, probabilities, strict=True)),
            "plausibles": plausible,
            "concluyente": len(plausible) == 1,
            "prevalencia": model.prevalence[code],
            "baja_prevalencia": code in model.low_prevalence,
            "modelo": {"nombre": model.name, "version": model.version},
            "avisos": self._remarks(patient, model),
        }

    def _remarks(self, patient: Patient, model: ModelFacts) -> list[dict[str, str]]:
        values = patient.__dict__
        remarks = [
            remark
            for ranges in (self._references, self._training_ranges(model))
            for name, low, high, remark in ranges
            if (value := values[name]) is not None and not low <= value <= high
        ]
        if absent := [name for name in model.never_missing if values[name] is None]:
            derived = patient.derived()
            remarks.extend(self._unexpectedly_absent(name) for name in sorted(absent) if name not in derived)
        remarks.extend(_shown(remark) for remark in patient.remarks())
        return remarks

    def _training_ranges(self, model: ModelFacts) -> list[tuple[str, float, float, dict[str, str]]]:
        if self._trained[0] != model.digest:
            code, range_name = "fuera_de_entrenamiento", "de lo que el modelo conoce"
            ranges = model.training_ranges.items()
            self._trained = (
                model.digest,
                [(name, low, high, self._outside(name, code, range_name, (low, high))) for name, (low, high) in ranges],
            )
        return self._trained[1]

    def _unexpectedly_absent(self, name: str) -> dict[str, str]:
        sentence = f"{self._features[name].label}: no consta, y el modelo no conoce casos sin este dato."
        return {"campo": name, "codigo": "ausente_inesperado", "mensaje": sentence}

    def _outside(self, name: str, code: str, range_name: str, limits: tuple[float, float]) -> dict[str, str]:
        feature = self._features[name]
        sentence = f"{feature.label}: fuera {range_name},{between(limits, feature.unit)}."
        return {"campo": name, "codigo": code, "mensaje": sentence}


def _plausible(score: Score, best: int) -> list[str]:
    """Return the classes whose probability reaches the model's threshold, likeliest first; always with the `best`."""
    probabilities, classes, threshold = score.probabilities, score.model.classes, score.model.plausible_at
    if threshold is None:
        return [classes[best]]
    plausible = [index for index, p in enumerate(probabilities) if p >= threshold or index == best]
    plausible.sort(key=probabilities.__getitem__, reverse=True)  # stable: of equals the answered one stays first
    return [classes[index] for index in plausible]


def _shown(remark: Remark) -> dict[str, str]:
    return {"campo": remark.field, "codigo": remark.code, "mensaje": remark.message}
