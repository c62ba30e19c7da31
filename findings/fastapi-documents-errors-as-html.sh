#!/usr/bin/env bash
# fastapi 0.165.0: the model of an error response is documented under the media type of the route's `response_class`.
#
# `responses={404: {"model": Fault}}` on a route with `response_class=HTMLResponse` suggests a JSON body for the 404, as
# any Pydantic model. The OpenAPI document says `text/html` with the schema of an object, so a generated client does not
# parse the error. The same happens with every other response class. shared/web/openapi.py corrects the document.
#
# Seen on Debian 12, Python 3.11: the only media type of the 404 is text/html, and its schema is a reference to Fault.
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check fastapi==0.165.0
"$folder/env/bin/python" - > "$folder/output" <<'PYTHON'
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from pydantic import BaseModel


class Fault(BaseModel):
    error: str


app = FastAPI()


@app.get("/card", response_class=HTMLResponse, responses={404: {"model": Fault}})
def card() -> str:
    return "<p>"


print(app.openapi()["paths"]["/card"]["get"]["responses"]["404"]["content"])
PYTHON
cat "$folder/output"
grep -qx "{'text/html': {'schema': {'\$ref': '#/components/schemas/Fault'}}}" "$folder/output"
