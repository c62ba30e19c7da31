"""What training reads from the environment (or a `.env` beside the run): which patient, and where the registry is."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr

from shared.settings import ProcessSettings


class TrainingSettings(ProcessSettings):
    """Read by the stages and the pipeline, once each."""

    predecir_paciente: str = "shared.diseases.thyroid:DatosPaciente"
    """The patient class, as package.module:Class."""
    var: Path = Field(default=Path("var"), alias="PREDECIR_VAR")
    """Folder for the registry, the published models and the keys."""
    mlflow_tracking_uri: str | None = None
    """The MLflow server to register with; without one, an SQLite file under the folder above."""


class TriggerSettings(TrainingSettings):
    """Read by `training trigger` and `training reproduce`, besides the above."""

    database_url: SecretStr = SecretStr("sqlite:///./predicciones.db")
    """The recorder's database, read only: sqlite:///./FILE or postgresql://user:password@host:5432/database."""
