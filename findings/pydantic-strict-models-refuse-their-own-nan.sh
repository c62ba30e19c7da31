#!/usr/bin/env bash
# pydantic 2.14.3: a strict model with an infinite or undefined float writes JSON that it does not read, under two of three
# settings; the third writes what is not JSON.
#
# A strict float admits NaN and infinity, and reads 1e999, valid JSON, as infinity. `ser_json_inf_nan` offers three forms.
# The default is null, which a float refuses. "strings" is the form made for a round trip through JSON, and strict models
# do read dates and UUIDs from texts in JSON; but not these floats. "constants" is read, and is no JSON: orjson refuses it.
# `Field(allow_inf_nan=False)` refuses them on the way in.
#
# Seen on Debian 12, Python 3.11, for the float that the strict model reads from {"x":1e999}:
#   null: writes {"x":null}, pydantic refuses, orjson reads
#   strings: writes {"x":"Infinity"}, pydantic refuses, orjson reads
#   constants: writes {"x":Infinity}, pydantic reads, orjson refuses
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check pydantic==2.14.3 orjson==3.13.0
"$folder/env/bin/python" - > "$folder/output" <<'PYTHON'
import orjson
from pydantic import BaseModel, ConfigDict


def verdict(read, text):
    try:
        read(text)
    except ValueError:
        return "refuses"
    return "reads"


for form in ("null", "strings", "constants"):

    class Reading(BaseModel):
        model_config = ConfigDict(strict=True, ser_json_inf_nan=form)
        x: float

    text = Reading.model_validate_json('{"x":1e999}').model_dump_json()
    own, other = verdict(Reading.model_validate_json, text), verdict(orjson.loads, text)
    print(f"{form}: writes {text}, pydantic {own}, orjson {other}")
PYTHON
cat "$folder/output"
diff "$folder/output" - <<'EXPECTED'
null: writes {"x":null}, pydantic refuses, orjson reads
strings: writes {"x":"Infinity"}, pydantic refuses, orjson reads
constants: writes {"x":Infinity}, pydantic reads, orjson refuses
EXPECTED
