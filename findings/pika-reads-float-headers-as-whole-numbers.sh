#!/usr/bin/env bash
# pika 1.4.4 and aio-pika 10.2.1 (pamqp 4.0.1): a float in a message header has another value for each of the two clients.
#
# Headers are typed, so one would expect that a Python float arrives as it was sent. aio-pika sends it with 32 bits: 0.9 is
# inexact, and a time in seconds is wrong by up to a minute. pika cuts the fraction off when it reads one: a probability
# becomes 0, whatever its width on the wire. pika itself refuses to send a float. Numbers belong in the body, or in a text.
#
# Seen on Debian 12, Python 3.11, for the headers {"sent_at": 1796079600.25, "limit": 0.9} of a message of aio-pika:
#   aio-pika reads sent_at 1796079616.0 and limit 0.8999999761581421
#   pika reads sent_at 1796079616 and limit 0
#   pika writes: UnsupportedAMQPFieldException
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check aio-pika==10.2.1 pamqp==4.0.1 pika==1.4.4
"$folder/env/bin/python" - > "$folder/output" <<'PYTHON'
import aio_pika
import pika
from pamqp.header import ContentHeader

FIXED = 12  # bytes of a content header before its properties: class, weight, body size

headers = {"sent_at": 1796079600.25, "limit": 0.9}
sent = ContentHeader(body_size=0, properties=aio_pika.Message(b"", headers=headers).properties).marshal()

read_by_aio_pika = ContentHeader()
read_by_aio_pika.unmarshal(sent)
read_by_pika = pika.BasicProperties()
read_by_pika.decode(sent[FIXED:])
for client, read in (("aio-pika", read_by_aio_pika.properties.headers), ("pika", read_by_pika.headers)):
    print(f"{client} reads", " and ".join(f"{name} {read[name]!s}" for name in headers))
try:
    pika.BasicProperties(headers=headers).encode()
except pika.exceptions.UnsupportedAMQPFieldException as error:
    print("pika writes:", type(error).__name__)
PYTHON
cat "$folder/output"
diff "$folder/output" - <<'EXPECTED'
aio-pika reads sent_at 1796079616.0 and limit 0.8999999761581421
pika reads sent_at 1796079616 and limit 0
pika writes: UnsupportedAMQPFieldException
EXPECTED
