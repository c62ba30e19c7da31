#!/usr/bin/env bash
# RabbitMQ 4.0.5 (Debian 13): a quorum queue drops a message after 21 deliveries, also if no consumer ever rejected it.
#
# Version 4 gives each quorum queue a delivery limit of 20, meant for messages that consumers fail on. A return by a
# connection that closes in good order counts as a failure. So a consumer that reconnects 21 times, say in an outage of its
# database, loses good messages, without an error, and for ever if the queue has no dead letter exchange. Version 3.10.8
# keeps them. `x-delivery-limit: -1` switches the limit off in version 4, and in 3.10.8 it drops a message that came back
# once; shared/broker/topology.py sets a high limit, with a dead letter exchange.
#
# Seen on Debian 12, Python 3.11 (needs root, for debootstrap), with 40 connections that take the message and close:
#   default: delivered 21 times, then gone
#   x-delivery-limit -1: delivered 40 times, still there
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
root=$folder/debian
broker=
names=
finish() {
  if [[ $broker ]]; then
    kill "$broker" || true
    wait "$broker" || true
    chroot "$root" epmd -port "$names" -kill > /dev/null || true
  fi
  rm -rf --one-file-system "$folder"
}
trap finish EXIT
command -v debootstrap > /dev/null || apt-get install -y -qq debootstrap > /dev/null
debootstrap --variant=minbase --include=rabbitmq-server trixie "$root" > "$folder/debootstrap.log"
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check pika==1.4.4
read -r port distribution names < <("$folder/env/bin/python" -c '
import socket
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
print(*(each.getsockname()[1] for each in sockets))')
env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT="$names" \
  RABBITMQ_NODENAME=finding@localhost RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT="$port" \
  RABBITMQ_DIST_PORT="$distribution" RABBITMQ_ALLOW_INPUT=1 RABBITMQ_SERVER_START_ARGS=-noinput \
  chroot "$root" /usr/lib/rabbitmq/bin/rabbitmq-server > "$folder/broker.log" 2>&1 &
broker=$!
timeout 180 "$folder/env/bin/python" - "$port" > "$folder/output" <<'PYTHON'
import socket
import sys
import time

import pika

PORT = int(sys.argv[1])
CONNECTIONS = 40


def connect():
    return pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", PORT))


def started():
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", PORT)) == 0


def takes(queue):
    for count in range(CONNECTIONS):
        connection = connect()
        channel, deadline, method = connection.channel(), time.monotonic() + 5, None
        while method is None and time.monotonic() < deadline:  # a return may need a moment after its connection closed
            method, _, _ = channel.basic_get(queue)
        connection.close()
        if method is None:
            return f"delivered {count} times, then gone"
    return f"delivered {CONNECTIONS} times, still there"


while not started():
    time.sleep(0.5)
for name, limit in (("default", {}), ("x-delivery-limit -1", {"x-delivery-limit": -1})):
    connection = connect()
    channel = connection.channel()
    channel.queue_declare(name, durable=True, arguments={"x-queue-type": "quorum", **limit})
    channel.confirm_delivery()
    channel.basic_publish("", name, b"good")
    connection.close()
    print(f"{name}: {takes(name)}")
PYTHON
cat "$folder/output"
diff "$folder/output" - <<'EXPECTED'
default: delivered 21 times, then gone
x-delivery-limit -1: delivered 40 times, still there
EXPECTED
