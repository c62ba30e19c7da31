#!/usr/bin/env bash
# uvicorn 0.54.0: `--limit-concurrency N` serves N - 1 clients, counts connections that do nothing, and with N = 1 serves none.
#
# The name suggests a limit of requests at work. uvicorn compares the number of open connections with N, with the one that
# sends the request already counted, and answers 503 from N on. Clients that keep an idle connection for the next request, as a
# pool does, exclude others while no request runs at all, and a health probe then fails on an idle server.
#
# Seen on Debian 12, Python 3.11, with the parsers h11 and httptools alike, four clients one after the other, each of which
# keeps its connection open after the answer:
#   limit 1: 503 503 503 503
#   limit 3: 200 200 503 503
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check uvicorn==0.54.0 h11==0.16.0 httptools==0.9.0
"$folder/env/bin/python" - > "$folder/output" <<'PYTHON'
import http.client
import threading
import time

import uvicorn


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def statuses(parser, limit):
    config = uvicorn.Config(
        app, port=0, http=parser, limit_concurrency=limit, timeout_keep_alive=60, lifespan="off", log_level="critical"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    clients = [http.client.HTTPConnection("127.0.0.1", server.servers[0].sockets[0].getsockname()[1]) for _ in range(4)]
    for client in clients:
        client.request("GET", "/")
        response = client.getresponse()
        response.read()
        yield response.status
    for client in clients:
        client.close()
    server.should_exit = True
    thread.join()


for parser in ("h11", "httptools"):
    for limit in (1, 3):
        print(f"{parser}, limit {limit}:", *statuses(parser, limit))
PYTHON
cat "$folder/output"
diff "$folder/output" - <<'EXPECTED'
h11, limit 1: 503 503 503 503
h11, limit 3: 200 200 503 503
httptools, limit 1: 503 503 503 503
httptools, limit 3: 200 200 503 503
EXPECTED
