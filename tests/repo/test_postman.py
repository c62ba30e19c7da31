"""The Postman collection is in step with the API, and its examples are accepted."""

import json
from typing import Any

from services.gateway.api.feedback import Resultado
from shared.diseases.thyroid import DatosPaciente
from tests.support.paths import ROOT
from tests.support.postman import collection, openapi

COMMITTED = json.loads((ROOT / "docs/postman.json").read_text())


def body(path: str) -> str:
    requests = [item["request"] for folder in COMMITTED["item"] for item in folder["item"]]
    [found] = [request["body"]["raw"] for request in requests if request["url"]["raw"] == f"{{{{servidor}}}}{path}"]
    return str(found)


async def test_the_collection_matches_the_api() -> None:
    made: dict[str, Any] = collection(await openapi())
    assert made == COMMITTED, "run: python -m tests.support.postman > docs/postman.json"


def test_its_examples_are_accepted() -> None:
    assert DatosPaciente.model_validate_json(body("/predecir")).tsh == 0.2
    assert Resultado.model_validate_json(body("/predicciones/:id/resultado")).aceptada is True
