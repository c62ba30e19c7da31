"""Context of a command: settings, patient class, model store and model registry, each built once at its first use.

A command that does not use the registry does not import MLflow, which takes seconds.
"""

from functools import cached_property
from typing import TYPE_CHECKING

from shared.artifacts.store import ModelStore
from shared.patient import Patient, load_patient
from shared.settings import read_settings
from training.registry.open import open_registry
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
        return open_registry(self.settings, self.patient.disease.name)

    @property
    def registry_exists(self) -> bool:
        """True if there is a registry to read: a configured server, or an existing local file."""
        return self.settings.mlflow_tracking_uri is not None or self.settings.registry_file.exists()
