"""Context of a command: settings, patient class, model store and model registry, each built once at its first use.

A command that does not use the registry does not import MLflow, which takes seconds.
"""

import os
from functools import cached_property
from typing import TYPE_CHECKING

from shared.artifacts.store import ModelStore
from shared.patient import Patient, load_patient
from shared.settings import read_settings
from training.errors import RegistryError
from training.settings import TrainingSettings

if TYPE_CHECKING:
    from training.registry.mlflow_registry import ModelRegistry


class TrainingContext:
    """Everything that a command reads from its environment."""

    def __init__(self, settings: TrainingSettings | None = None) -> None:
        """Use `settings`, or read them from the environment when they are first needed."""
        self._settings = settings

    @cached_property
    def settings(self) -> TrainingSettings:
        """The settings.

        Raises:
            SettingsError: one of them is wrong.

        """
        return self._settings or read_settings(TrainingSettings)

    @cached_property
    def patient(self) -> type[Patient]:
        """The patient class that `PREDECIR_PACIENTE` names.

        Raises:
            PatientClassError: it cannot be used.

        """
        return load_patient(self.settings.predecir_paciente)

    @cached_property
    def model_store(self) -> ModelStore:
        """The bundles of this patient class under `PREDECIR_VAR`."""
        return ModelStore(self.settings.var, self.patient.disease.name, self.patient.digest)

    @cached_property
    def model_registry(self) -> "ModelRegistry":
        """The model registry of this disease; opening it imports MLflow and creates a local one where none exists.

        Raises:
            RegistryError: it cannot be used.

        """
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # the URL may contain a password
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        from training.registry.mlflow_registry import ModelRegistry  # noqa: PLC0415 - MLflow reads the variables above

        var = self.settings.var
        try:
            var.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"PREDECIR_VAR={var}: cannot be made ({error.strerror}); it is the model registry's folder"
            raise RegistryError(message) from None
        return ModelRegistry(self.patient.disease.name, uri=self.settings.mlflow_tracking_uri, var=var)

    @property
    def registry_exists(self) -> bool:
        """True if there is a registry to read: a configured server, or an existing local file."""
        return self.settings.mlflow_tracking_uri is not None or self.settings.registry_file.exists()
