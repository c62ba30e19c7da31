"""Thyroid disease, from laboratory requests: the patient, the diagnoses and the cleaning of the data.

Data: Quinlan, R. (1986), Thyroid Disease, UCI Machine Learning Repository, DOI 10.24432/C5D010, file `thyroid0387`
(Garvan Institute, Sydney, 1984 to 1987), CC BY 4.0. The codebook gives no units; those below are inferred.
"""

import datetime as dt
from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import model_validator

from shared.patient import (
    About,
    Case,
    Diagnosis,
    DiscardedRowError,
    Disease,
    Patient,
    Remark,
    choice,
    flag,
    measure,
    rule_broken,
)

LABORATORY = ("tsh", "t3", "t4_total", "captacion_t4", "indice_t4_libre")
OLDEST = 120
"""Years. Four rows of the raw file have 455 and more; their age counts as missing, the rest of the row is used."""
INDEX_TOLERANCE = 0.05
"""Largest relative difference of the free T4 index from T4 / T4 uptake without a remark."""
TSH_REFERENCE, T3_REFERENCE, INDEX_REFERENCE = (0.2, 6.0), (1.1, 3.1), (65.0, 155.0)
LATE_PREGNANCY_AGE = 55
"""Years; a pregnancy above this age causes a remark."""

_T4_PER_UG_DL = 12.87
"""nmol/L in 1 µg/dL of thyroxine: 10 µg/L over its molar mass, 776.87 g/mol (PubChem CID 5819)."""
_T3_PER_NG_DL = 0.01536
"""nmol/L in 1 ng/dL of triiodothyronine: 10 ng/L over its molar mass, 650.97 g/mol (PubChem CID 5920)."""

_LAB = "Laboratorio"
_HISTORY = "Antecedentes y tratamiento"
_SUSPICION = "Motivo de la consulta"
_NO_FREE = "Aquí se pide la hormona total: la libre es otra prueba, con otras unidades, y no se acepta en este campo."

_ABOUT = About(
    purpose=(
        "Orientar a un médico que ya tiene ante sí un análisis tiroideo: señala el diagnóstico más compatible con los "
        "valores y los antecedentes, y qué otros no se pueden descartar. Es una demostración, no un producto sanitario."
    ),
    not_for=(
        "Decidir un tratamiento, o descartar una enfermedad, sin el juicio de un médico.",
        "Cribar a personas sin motivo de consulta: los datos son de pacientes a quienes ya se pidió el análisis.",
        "Hormonas libres (T3 o T4 libre) en lugar de las totales: son otras pruebas, con otros rangos.",
        "Recién nacidos y niños pequeños, cuyos valores de referencia son otros.",
    ),
    source=(
        "Quinlan, R. (1986). Thyroid Disease. UCI Machine Learning Repository, fichero thyroid0387, "
        "doi:10.24432/C5D010. Instituto Garvan, Sídney (Australia)."
    ),
    licence=(
        "CC BY 4.0. Cambios: se añadió una cabecera, «?» pasó a vacío y el último campo se dividió en diagnóstico y "
        "registro."
    ),
    population=(
        "Peticiones de análisis tiroideo a un único laboratorio de referencia, de 1984 a 1987. No constan la etnia ni "
        "el nivel de asistencia, y no se sabe si un paciente se repite."
    ),
    exclusions="Se dejan fuera las peticiones sin ningún valor de laboratorio, o en las que solo se midió la TBG.",
    outcome=(
        "El comentario que el propio laboratorio escribió sobre sus resultados, codificado con letras; de «X|Y» cuenta "
        "Y, la más probable. No es un diagnóstico confirmado, y quien comentaba veía los mismos valores que el modelo."
    ),
    units=(
        "El libro de códigos no indica unidades: se han deducido de los valores. Los rangos de referencia sirven para "
        "los avisos, no para el cálculo."
    ),
    rule=(
        "TSH por encima de su referencia: hipotiroidismo. TSH por debajo, y T3 total o índice de T4 libre por encima:"
        " hipertiroidismo. En otro caso: sin alteración."
    ),
    limits=(
        "Un solo laboratorio, de los años ochenta: métodos y tratamientos han cambiado. Sin validación externa.",
        "Los datos cambian con el tiempo (el método de la TSH, cuánto se pide la T3); mañana pueden ser otros.",
        "El laboratorio comentó lo que ya había medido: el modelo aprende, en parte, sus reglas.",
        "Hay pocos menores de 18 años y pocas embarazadas; de ellos se sabe poco.",
    ),
    ethics="La fuente publica los datos sin identificar; no consta el dictamen de un comité de ética.",
)


class DatosPaciente(Patient):
    """Datos de un paciente para orientar el diagnóstico tiroideo."""

    disease: ClassVar[Disease] = Disease(
        name="tiroides",
        title="Diagnóstico tiroideo",
        diagnoses=(
            Diagnosis("sin_alteracion", "Sin alteración tiroidea"),
            Diagnosis("hipotiroidismo", "Hipotiroidismo"),
            Diagnosis("enfermedad_no_tiroidea", "Enfermedad no tiroidea concurrente"),
            Diagnosis("seguimiento_tratamiento", "Seguimiento de tratamiento tiroideo"),
            Diagnosis("proteinas_transportadoras", "Alteración de proteínas transportadoras"),
            Diagnosis("hipertiroidismo", "Hipertiroidismo"),
            Diagnosis("resultados_discordantes", "Resultados discordantes"),
        ),
        about=_ABOUT,
    )

    edad: int | None = measure("Edad", unit="años", limits=(0, OLDEST), required=True)
    sexo: Literal["F", "M"] | None = choice("Sexo", required=True, description="F, M, o vacío si no consta.")

    tsh: float | None = measure("TSH", unit="mU/L", limits=(0.001, 1000), reference=TSH_REFERENCE, group=_LAB)
    t3: float | None = measure(
        "T3 total",
        unit="nmol/L",
        limits=(0.01, 30),
        reference=T3_REFERENCE,
        group=_LAB,
        description=_NO_FREE,
        other_units={"ng/dL": _T3_PER_NG_DL},
    )
    t4_total: float | None = measure(
        "T4 total",
        unit="nmol/L",
        limits=(1, 700),
        reference=(63, 151),
        group=_LAB,
        description=_NO_FREE,
        other_units={"µg/dL": _T4_PER_UG_DL},
    )
    captacion_t4: float | None = measure(
        "Captación de T4", unit="cociente", limits=(0.1, 3), reference=(0.66, 1.26), group=_LAB
    )
    indice_t4_libre: float | None = measure(
        "Índice de T4 libre",
        unit="índice",
        limits=(0.5, 1000),
        reference=INDEX_REFERENCE,
        group=_LAB,
        description="T4 total dividida por la captación de T4. Si se deja vacío y constan ambas, se calcula.",
        other_units={"índice con T4 en µg/dL": _T4_PER_UG_DL},
    )

    toma_tiroxina: bool = flag("Toma tiroxina", group=_HISTORY)
    posible_tiroxina: bool = flag("Posible toma de tiroxina", group=_HISTORY)
    medicacion_antitiroidea: bool = flag("Medicación antitiroidea", group=_HISTORY)
    enfermedad_aguda: bool = flag("Enfermedad aguda", group=_HISTORY)
    embarazo: bool = flag("Embarazo", group=_HISTORY)
    cirugia_tiroidea: bool = flag("Cirugía tiroidea", group=_HISTORY)
    tratamiento_i131: bool = flag("Tratamiento con yodo 131", group=_HISTORY)
    sospecha_hipotiroidismo: bool = flag("Sospecha de hipotiroidismo", group=_SUSPICION)
    sospecha_hipertiroidismo: bool = flag("Sospecha de hipertiroidismo", group=_SUSPICION)
    litio: bool = flag("Toma litio", group=_HISTORY)
    bocio: bool = flag("Bocio", group=_SUSPICION)
    tumor: bool = flag("Tumor", group=_HISTORY)
    hipopituitarismo: bool = flag("Hipopituitarismo", group=_HISTORY)
    trastorno_psiquiatrico: bool = flag("Trastorno psiquiátrico", group=_HISTORY)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if all(getattr(self, name) is None for name in LABORATORY):
            raise rule_broken("tsh", "sin_laboratorio", "Indique al menos un resultado de laboratorio.")
        if self.embarazo and self.sexo == "M":
            raise rule_broken("embarazo", "embarazo_y_sexo", "El embarazo no es compatible con sexo M.")
        return self

    def derived(self) -> dict[str, float]:
        """Return the free T4 index if it is missing and its two parts are not."""
        if self.indice_t4_libre is None and self.t4_total is not None and self.captacion_t4 is not None:
            return {"indice_t4_libre": self.t4_total / self.captacion_t4}
        return {}

    def by_rule(self) -> str:
        """Decide by TSH first, then by T3 and the free T4 index."""
        index = self.indice_t4_libre or self.derived().get("indice_t4_libre")
        raised = any(
            value is not None and value > high
            for value, (_, high) in ((self.t3, T3_REFERENCE), (index, INDEX_REFERENCE))
        )
        if self.tsh is not None and self.tsh > TSH_REFERENCE[1]:
            return "hipotiroidismo"
        if self.tsh is not None and self.tsh < TSH_REFERENCE[0] and raised:
            return "hipertiroidismo"
        return "sin_alteracion"

    def remarks(self) -> list[Remark]:
        """Return remarks on a pregnancy late in life, and on an index that contradicts its parts."""
        remarks: list[Remark] = []
        if self.embarazo and self.edad is not None and self.edad > LATE_PREGNANCY_AGE:
            text = f"Embarazo: poco habitual después de los {LATE_PREGNANCY_AGE} años; compruebe la edad."
            remarks.append(Remark("embarazo", "embarazo_y_edad", text))
        index, total, uptake = self.indice_t4_libre, self.t4_total, self.captacion_t4
        if (
            index is not None
            and total is not None
            and uptake is not None
            and abs(index - total / uptake) > INDEX_TOLERANCE * index
        ):
            text = "Índice de T4 libre: no coincide con T4 total dividida por la captación; compruebe los tres valores."
            remarks.append(Remark("indice_t4_libre", "indice_contradictorio", text))
        return remarks

    @classmethod
    def from_row(cls, row: Mapping[str, str]) -> Case:
        """Convert one laboratory request by the rules of `data/README.md`."""
        laboratory = {name: float(row[column]) if row[column] else None for column, name in _MEASURED.items()}
        if all(value is None for value in laboratory.values()):
            raise DiscardedRowError("only TBG was measured" if row["TBG"] else "no laboratory value")
        age = float(row["age"])  # a table may write 47.0; the class takes it for 47, and rejects 47.5
        patient = cls.model_validate(
            {
                "edad": age if age <= OLDEST else None,
                "sexo": row["sex"] or None,
                **laboratory,
                **{name: row[column] == "t" for column, name in _FLAGGED.items()},
            }
        )
        return Case(patient, _diagnosis(row["diagnosis"]), _date(row["record_id"]))


_MEASURED = {"TSH": "tsh", "T3": "t3", "TT4": "t4_total", "T4U": "captacion_t4", "FTI": "indice_t4_libre"}

_FLAGGED = {
    "on_thyroxine": "toma_tiroxina",
    "query_on_thyroxine": "posible_tiroxina",
    "on_antithyroid_medication": "medicacion_antitiroidea",
    "sick": "enfermedad_aguda",
    "pregnant": "embarazo",
    "thyroid_surgery": "cirugia_tiroidea",
    "I131_treatment": "tratamiento_i131",
    "query_hypothyroid": "sospecha_hipotiroidismo",
    "query_hyperthyroid": "sospecha_hipertiroidismo",
    "lithium": "litio",
    "goitre": "bocio",
    "tumor": "tumor",
    "hypopituitary": "hipopituitarismo",
    "psych": "trastorno_psiquiatrico",
}

_LETTERS = {
    "-": "sin_alteracion",
    "EFGH": "hipotiroidismo",
    "K": "enfermedad_no_tiroidea",
    "LMNOPQ": "seguimiento_tratamiento",
    "IJ": "proteinas_transportadoras",
    "ABCD": "hipertiroidismo",
    "R": "resultados_discordantes",
}
_DIAGNOSIS_OF = {letter: code for letters, code in _LETTERS.items() for letter in letters}


def _diagnosis(comment: str) -> str:
    """Map the laboratory's comment to a code: `X|Y` means "X, more likely Y"; otherwise the first letter counts."""
    letter = comment.partition("|")[2][:1] or comment[:1]
    try:
        return _DIAGNOSIS_OF[letter]
    except KeyError:
        raise ValueError(f"unknown diagnosis letter {letter!r}") from None


def _date(record_id: str) -> dt.date:
    """Return the date of the request: the first six digits of its id (`YYMMDDnnn`)."""
    return dt.datetime.strptime(record_id[:6], "%y%m%d").replace(tzinfo=dt.UTC).date()
