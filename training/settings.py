"""Settings of training, from the environment or a `.env` in the current folder."""

from pathlib import Path

from pydantic import Field

from shared.database_url import DatabaseSettings


class TrainingSettings(DatabaseSettings):
    """Settings of all training commands. `trigger` and `reproduce` read the recorder's database, and never write it."""

    predecir_paciente: str = "shared.diseases.thyroid:DatosPaciente"
    """The patient class, as package.module:Class."""
    var: Path = Field(default=Path("var"), alias="PREDECIR_VAR")
    """Folder for the registry, the published models and the keys."""
    mlflow_tracking_uri: str | None = None
    """URI of an MLflow server to register with. Without one, the registry is an SQLite file in PREDECIR_VAR."""

    @property
    def registry_file(self) -> Path:
        """The SQLite file of a local registry."""
        return self.var / "mlflow.db"
