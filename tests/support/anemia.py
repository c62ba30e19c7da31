"""`python3 -m tests.support.anemia FOLDER`: write the disease of docs/guides/another-disease.md, with 420 patients."""

import datetime as dt
import os
import random
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENT = "anemia:DatosPaciente"
PAGE = (ROOT / "docs/guides/another-disease.md").read_text()


def example(language: str) -> str:
    """Return the page's first code block in `language`, which a reader copies."""
    return PAGE.partition(f"```{language}\n")[2].partition("```")[0]


def table(rows: int = 420) -> str:
    """Return made-up blood counts with the page's columns: cells are small without iron, and large without B12."""
    rng = random.Random(5)  # noqa: S311 - made-up patients, not keys
    lines = [example("csv").splitlines()[0]]
    for number in range(rows):
        label = rng.choices(["normal", "iron", "b12"], [6, 3, 2])[0]
        seen = dt.date(2023, 1, 1) + dt.timedelta(days=number)
        hemoglobin = rng.gauss({"normal": 14, "iron": 9.5, "b12": 9.8}[label], 1.2)
        hb = "" if number % 20 == 0 else f"{hemoglobin:.1f}"
        mcv = "" if rng.random() < 0.1 else f"{rng.gauss({'normal': 90, 'iron': 72, 'b12': 112}[label], 6):.0f}"
        ferritin = "" if rng.random() < 0.3 else f"{rng.lognormvariate(2 if label == 'iron' else 4.5, 0.4):.1f}"
        lines.append(f"{seen},{rng.randint(18, 90)},{rng.choice(['F', 'M', ''])},{hb},{mcv},{ferritin},0,{label}")
    return "\n".join(lines) + "\n"


def lay_down(folder: Path) -> Path:
    """Write the files of a disease's owner: a class, a table and parameters."""
    (folder / "data").mkdir(parents=True)
    (folder / "anemia.py").write_text(example("python"))
    (folder / "params.yaml").write_text(example("yaml"))
    (folder / "data/raw.csv").write_text(table())
    return folder


def change(folder: Path, old: str, new: str) -> None:
    """Edit the parameters."""
    path = folder / "params.yaml"
    path.write_text(path.read_text().replace(old, new))


def environment(folder: Path) -> dict[str, str]:
    """Return the environment that names the disease in `folder` to our programs."""
    return {"PREDECIR_PACIENTE": PATIENT, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python3 -m tests.support.anemia FOLDER")
    if Path(sys.argv[1]).exists():
        sys.exit(f"{sys.argv[1]}: is there already; name a new folder")
    lay_down(Path(sys.argv[1]))
