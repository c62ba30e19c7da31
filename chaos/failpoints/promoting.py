"""`python -m training promote` killed between the promotion log, the alias and the links."""

from pathlib import Path

from chaos.failpoints.tally import Tally
from shared.artifacts.bundle import STAGING
from shared.artifacts.store import ModelStore
from tests.support.bundles import PacienteDePrueba
from tests.support.model_registry import ModelRegistry
from tests.support.zygote import Forked, Zygote

FAILPOINTS = ("promotion.recorded", "promotion.pointed", "promotion.applied")
_NAME = PacienteDePrueba.disease.name


class Site:
    """A folder with a registry of two versions, one of them in staging."""

    def __init__(self, folder: Path, zygote: Zygote) -> None:
        """Register two versions, and promote the first."""
        from training.registry import mlflow_registry  # noqa: PLC0415 - MLflow takes seconds to import

        self._folder, self._zygote = folder, zygote
        (folder / "var").mkdir(parents=True)
        self.registry = mlflow_registry.ModelRegistry(_NAME, uri=None, var=folder / "var")
        made = ModelRegistry(folder, f"sqlite:///{folder}/var/mlflow.db")
        self.staging, self.other = (made.register(PacienteDePrueba, seed=seed)[0] for seed in (1, 2))
        self.model_store = ModelStore(folder / "var", _NAME, PacienteDePrueba.digest)
        self.promote(self.staging).ended()

    def promote(self, version: str, environment: dict[str, str] | None = None) -> Forked:
        """Start the command that promotes `version` to staging."""
        words = ["training", "promote", version, "--to", STAGING, "--reason", "a test"]
        patient = {"PREDECIR_PACIENTE": "tests.support.bundles:PacienteDePrueba"}
        return self._zygote.start(words, self._folder, {**patient, **(environment or {})})

    def moves(self) -> list[str]:
        """Return the version of every valid entry of the promotion log, oldest first."""
        log = self.registry.promotion_log()
        return [stored.entry.version for stored in log.entries if stored.entry and stored.number not in log.late]

    def link(self) -> str | None:
        """Return the complete version that the link points to, or None."""
        try:
            version = (self.model_store.folder / STAGING).readlink().name
        except OSError:
            return None
        return None if self.model_store.opened(version) is None else version


def hit(failpoint: str, hits: int, site: Site) -> Tally:
    """Promote the versions in turn; each command kills itself and is then run once more.

    `answered` counts promotions. Each must be in the log once, and alias and link must agree in the end.
    """
    tally = Tally(failpoint, "registry in a file")
    for _ in range(hits):
        old, new, before = site.staging, site.other, site.moves()
        site.staging, site.other = new, old
        tally.hit(site.promote(new, {"PREDECIR_FAILPOINT": failpoint}))
        tally.never(site.registry.aliases()[STAGING] not in {old, new} or site.link() not in {old, new})
        again = site.promote(new)
        tally.never(again.ended() != 0)
        tally.recovered()
        moves = site.moves()
        tally.answered += 1
        tally.lost += moves[-1] != new
        tally.doubled += len(moves) - len(before) - 1
        last = site.registry.promotion_log().last(STAGING)
        tally.never(last is None or not last.stored.applied)
        tally.never({site.registry.aliases()[STAGING], site.link()} != {new})
    return tally
