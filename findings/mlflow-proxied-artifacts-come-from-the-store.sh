#!/usr/bin/env bash
# mlflow 3.17.2: a client fetches proxied artifacts from the object store itself, although its server proxies them.
#
# `--serve-artifacts` suggests that a client needs the tracking server only. MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD is
# documented as false by default, and as a matter of large files. But while it is unset, the client does what the server
# announces, and a server on S3 announces it always: files of any size, here of 10 bytes, come by presigned URL from the
# store, under the name by which the server knows it. Behind a firewall, uploads work and downloads do not; there is no
# return to the proxy. Set the variable to false for clients that must not reach the store; docker-compose.yml does.
#
# Seen on Debian 12, Python 3.11, with moto 5.2.5 as the store, for a file of 10 bytes:
#   upload, unset: tracking server; download, unset: tracking server, store; download, false: tracking server
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
started=()
finish() {
  if ((${#started[@]})); then kill "${started[@]}" || true; fi
  wait
  rm -rf "$folder"
}
trap finish EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check mlflow==3.17.2 boto3==1.44.8 'moto[server]==5.2.5'
cd "$folder"
free_port() { env/bin/python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
store=$(free_port)
tracking=$(free_port)
export MLFLOW_DISABLE_TELEMETRY=true
unset MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD
env/bin/moto_server -H 127.0.0.1 -p "$store" > store.log 2>&1 &
started+=($!)
printf -v endpoint '%s://127.0.0.1:%s' http "$store"
AWS_ACCESS_KEY_ID=a AWS_SECRET_ACCESS_KEY=a MLFLOW_S3_ENDPOINT_URL=$endpoint \
  MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false env/bin/mlflow server --host 127.0.0.1 --port "$tracking" --workers 1 \
  --backend-store-uri sqlite:///mlflow.db --serve-artifacts --artifacts-destination s3://models > server.log 2>&1 &
started+=($!)
cat > client.py <<'PYTHON'
import os
import pathlib
import socket
import sys
import time
import urllib.request
from urllib.parse import urlunsplit

import mlflow

step, setting = sys.argv[1], os.environ.get("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "unset")
ports = {int(sys.argv[2]): "store", int(sys.argv[3]): "tracking server"}
store, tracking = (urlunsplit(("http", f"127.0.0.1:{port}", "", "", "")) for port in ports)


def note(event, arguments):
    if event == "socket.connect" and arguments[1][1] in ports:
        reached.add(ports[arguments[1][1]])


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


while not all(answers(port) for port in ports):
    time.sleep(0.2)
if step == "upload":
    urllib.request.urlopen(urllib.request.Request(f"{store}/models", method="PUT"))
reached = set()
sys.addaudithook(note)
mlflow.set_tracking_uri(tracking)
if step == "upload":
    pathlib.Path("weights").write_text("0123456789")
    run = mlflow.MlflowClient().create_run("0")
    mlflow.MlflowClient().log_artifact(run.info.run_id, "weights")
    pathlib.Path("run").write_text(run.info.run_id)
else:
    mlflow.MlflowClient().download_artifacts(pathlib.Path("run").read_text(), "weights", dst_path=".")
print(f"{step}, {setting}:", ", ".join(sorted(reached, reverse=True)))
PYTHON
{
  timeout 300 env/bin/python client.py upload "$store" "$tracking"
  timeout 300 env/bin/python client.py download "$store" "$tracking"
  MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD=false timeout 300 env/bin/python client.py download "$store" "$tracking"
} 2> client.log | tee output
diff output - <<'EXPECTED'
upload, unset: tracking server
download, unset: tracking server, store
download, false: tracking server
EXPECTED
