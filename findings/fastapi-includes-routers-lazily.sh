#!/usr/bin/env bash
# FastAPI 0.165.0: `include_router` does not copy the routes into the application.
#
# For years `app.routes` listed the routes of every included router, and a route that was added to a router after its
# inclusion was not served. Now the application holds one entry per router and looks the routes up at each request.
# Code that walks `app.routes` to check something of every route (here: the roles that it declares) finds none of them,
# and passes. The OpenAPI document lists them as before. shared/web/hosting.py reads the routers themselves.
#
# Seen with Starlette 1.10.0, Debian 12, Python 3.11:
#   app.routes names /a/early: False
#   OpenAPI names /a/early: True
#   GET /a/late, added to the router after its inclusion: 200
# Exits 1 if one of the three changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check fastapi==0.165.0 starlette==1.10.0 httpx==0.28.1
"$folder/env/bin/python" -W ignore - <<'PYTHON'
import sys

from fastapi import APIRouter, FastAPI
from fastapi.testclient import TestClient

router, app = APIRouter(prefix="/a"), FastAPI()


@router.get("/early")
def early() -> str:
    return "early"


app.include_router(router)


@router.get("/late")
def late() -> str:
    return "late"


listed = "/a/early" in [getattr(route, "path", None) for route in app.routes]
documented = "/a/early" in app.openapi()["paths"]
status = TestClient(app).get("/a/late").status_code
print("app.routes names /a/early:", listed)
print("OpenAPI names /a/early:", documented)
print("GET /a/late, added to the router after its inclusion:", status)
sys.exit((listed, documented, status) != (False, True, 200))
PYTHON
