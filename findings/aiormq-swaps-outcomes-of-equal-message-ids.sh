#!/usr/bin/env bash
# aiormq 7.2.4 (aio-pika 10.2.1): two messages in flight on a channel with the same message id receive each other's outcome.
#
# With `on_return_raises=True` a message that no queue takes raises, and a delivery tag names the publication that an answer
# belongs to. But aiormq finds the publication of a returned message by its message id alone. If a second attempt at the
# same message, or a copy for another queue, is published before the first is confirmed, the lost message is reported as
# confirmed and the stored one as returned: an outbox then deletes the lost one. The gateway's relay uses a new id for each
# attempt.
#
# Seen on RabbitMQ 3.10.8 of Debian 12 (and 4.0.5), Python 3.11, for an unroutable and a routable message, in that order:
#   same id: unroutable Ack, routable PublishError; stored: routable
#   own ids: unroutable PublishError, routable Ack; stored: routable
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
broker=
finish() {
  if [[ $broker ]]; then
    kill "$broker" || true
    wait "$broker" || true
    epmd -port "$names" -kill > /dev/null || true
  fi
  rm -rf "$folder"
}
trap finish EXIT
[[ -e /usr/lib/rabbitmq/bin/rabbitmq-server ]] || apt-get install -y -qq rabbitmq-server > /dev/null
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check aio-pika==10.2.1 aiormq==7.2.4
cd "$folder"
read -r port distribution names < <(env/bin/python -c '
import socket
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
print(*(each.getsockname()[1] for each in sockets))')
env HOME="$folder" ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT="$names" RABBITMQ_NODENAME=finding@localhost \
  RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT="$port" RABBITMQ_DIST_PORT="$distribution" \
  RABBITMQ_ALLOW_INPUT=1 RABBITMQ_SERVER_START_ARGS=-noinput RABBITMQ_CONF_ENV_FILE="$folder/none" \
  RABBITMQ_CONFIG_FILE="$folder/none" RABBITMQ_ADVANCED_CONFIG_FILE="$folder/none" \
  RABBITMQ_ENABLED_PLUGINS_FILE="$folder/none" RABBITMQ_MNESIA_BASE="$folder/data" RABBITMQ_LOG_BASE="$folder/log" \
  RABBITMQ_GENERATED_CONFIG_DIR="$folder/config" /usr/lib/rabbitmq/bin/rabbitmq-server > broker.log 2>&1 &
broker=$!
timeout 120 env/bin/python - "$port" > output <<'PYTHON'
import asyncio
import sys

import aio_pika


async def started(port):
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.5)
        else:
            return writer.close()


async def publish(connection, ids):
    channel = await connection.channel(on_return_raises=True)
    queue = await channel.declare_queue(exclusive=True)
    targets = {"unroutable": "no-such-queue", "routable": queue.name}
    outcomes = await asyncio.gather(
        *(
            channel.default_exchange.publish(aio_pika.Message(target.encode(), message_id=message_id), targets[target])
            for message_id, target in zip(ids, targets, strict=True)
        ),
        return_exceptions=True,
    )
    async with queue.iterator(no_ack=True, timeout=30) as messages:
        stored = (await anext(messages)).body.decode()
    named = ", ".join(f"{target} {type(outcome).__name__}" for target, outcome in zip(targets, outcomes, strict=True))
    return f"{named}; stored: {stored}"


async def main():
    port = int(sys.argv[1])
    await started(port)
    async with await aio_pika.connect(host="127.0.0.1", port=port) as connection:
        print("same id:", await publish(connection, ["a", "a"]))
        print("own ids:", await publish(connection, ["a", "b"]))


asyncio.run(main())
PYTHON
cat output
diff output - <<'EXPECTED'
same id: unroutable Ack, routable PublishError; stored: routable
own ids: unroutable PublishError, routable Ack; stored: routable
EXPECTED
