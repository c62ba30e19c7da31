"""Reading of the recorded rows from a stack's database."""

import asyncpg

from chaos.analysis.verdict import Row
from chaos.stack import SupervisedStack


async def rows(stack: SupervisedStack) -> list[Row]:
    """Return every prediction."""
    records = await fetched(stack, "SELECT id::text, (inputs->>'tsh')::float AS tsh, output FROM predicciones")
    return [Row(row["id"], row["tsh"], row["output"]) for row in records]


async def fetched(stack: SupervisedStack, query: str) -> list[asyncpg.Record]:
    """Return the rows of `query`, over a new connection."""
    connection = await asyncpg.connect(stack.around.postgres.url(stack.around.database))
    try:
        return list(await connection.fetch(query))
    finally:
        await connection.close()
