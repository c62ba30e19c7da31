#!/usr/bin/env bash
# httpx 0.28.1: every `httpx.get` of a plain HTTP address reads the list of certificate authorities, although no TLS follows.
#
# The module-level functions build a client for each call, and a client builds its TLS context before it knows the URL's
# scheme. Polling a local service costs 10 to 30 ms of CPU a request, more than the service needs to answer. A shared
# context or `verify=False` avoids it; tests/support/plain_http.py passes an empty context.
#
# Seen on Debian 12, Python 3.11, for three requests to a server on loopback:
#   certificate authorities read 3 times by default, 0 times with a context of our own
# Exits 1 if either number changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check httpx==0.28.1
env -u SSL_CERT_FILE -u SSL_CERT_DIR "$folder/env/bin/python" - 2>/dev/null <<'PYTHON'
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx

server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = httpx.URL(scheme="http", host="127.0.0.1", port=server.server_port, path="/")
reads = 0
read_authorities = ssl.SSLContext.load_verify_locations


def counted(context, *arguments, **options):
    global reads
    reads += 1
    return read_authorities(context, *arguments, **options)


ssl.SSLContext.load_verify_locations = counted
own = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
for _ in range(3):
    httpx.get(url)
default, reads = reads, 0
for _ in range(3):
    httpx.get(url, verify=own)
print(f"certificate authorities read {default} times by default, {reads} times with a context of our own")
sys.exit((default, reads) != (3, 0))
PYTHON
