"""The Postman collection is in step with the API, and its examples are accepted."""

import json
import re
from typing import Any

from services.gateway.api.feedback import Resultado
from shared.diseases.thyroid import DatosPaciente
from tests.support.paths import ROOT
from tests.support.postman import collection, openapi

COMMITTED = json.loads((ROOT / "docs/postman.json").read_text())


ITEMS = [item for folder in COMMITTED["item"] for item in folder["item"]]


def body(path: str) -> str:
    requests = [item["request"] for item in ITEMS]
    [found] = [request["body"]["raw"] for request in requests if request["url"]["raw"] == f"{{{{servidor}}}}{path}"]
    return str(found)


def lines(item: dict[str, Any]) -> list[str]:
    [event] = item["event"]
    return list(event["script"]["exec"])


def script(path: str) -> str:
    [item] = [item for item in ITEMS if item["request"]["url"]["raw"] == f"{{{{servidor}}}}{path}"]
    return "\n".join(lines(item))


async def test_the_collection_matches_the_api() -> None:
    made: dict[str, Any] = collection(await openapi())
    assert made == COMMITTED, "run: python -m tests.support.postman > docs/postman.json"


def test_its_examples_are_accepted() -> None:
    assert DatosPaciente.model_validate_json(body("/predecir")).tsh == 3.1
    assert Resultado.model_validate_json(body("/predicciones/:id/resultado")).aceptada is True


def test_every_variable_of_a_request_has_a_value_or_a_request_that_sets_it() -> None:
    used = set(re.findall(r"{{(\w+)}}", json.dumps([item["request"] for item in ITEMS])))
    values = {variable["key"]: variable["value"] for variable in COMMITTED["variable"]}
    assigned = set(re.findall(r'collectionVariables\.set\("(\w+)"', script("/predecir")))
    assert {"servidor", "inferencia", "id", "name", "version"} <= used <= set(values)
    assert {name for name in used if not values[name]} <= assigned


def test_every_request_tests_its_response() -> None:
    assert [item["name"] for item in ITEMS if sum("pm.test(" in line for line in lines(item)) < 2] == []
