"""The test kit's proxy: each fault acts on open connections and on new ones."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from tests.support.faulty_network import Proxy, proxied
from tests.support.waiting import until

PATIENCE = 30
EXPANDING = b"?"
"""A message that is shorter than its echo."""


class Line:
    """One client's connection to the echo."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def say(self, data: bytes) -> None:
        self.writer.write(data)

    async def hear(self, size: int) -> bytes:
        return await asyncio.wait_for(self.reader.readexactly(size), PATIENCE)

    async def rest(self) -> bytes:
        return await asyncio.wait_for(self.reader.read(), PATIENCE)

    async def echoed(self, data: bytes) -> bool:
        self.say(data)
        return await self.hear(len(data)) == data

    async def silent(self) -> bool:
        """Return whether nothing arrives for longer than a healthy network ever takes."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.reader.read(1), 0.3)
            return False
        return True


@asynccontextmanager
async def server(answer: Callable[[bytes], bytes]) -> AsyncIterator[int]:
    """Echo everything that arrives; yields the port."""
    talking: set[asyncio.StreamWriter] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talking.add(writer)
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(answer(data))
                await writer.drain()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        talking.discard(writer)

    listening = await asyncio.start_server(talk, "127.0.0.1", 0)
    yield listening.sockets[0].getsockname()[1]
    listening.close()
    await until(lambda: not talking, seconds=PATIENCE)


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    async with server(lambda data: b"!" * 5000 if data == EXPANDING else data) as port:
        with proxied(port) as running:
            yield running


@asynccontextmanager
async def line(proxy: Proxy) -> AsyncIterator[Line]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield Line(reader, writer)
    finally:
        writer.transport.abort()


async def test_a_good_network_carries_much_both_ways_and_the_end(proxy: Proxy) -> None:
    sent = hashlib.shake_256(b"seed").digest(5_000_000)
    async with line(proxy) as one, line(proxy) as other:
        one.say(sent)
        assert await other.echoed(b"beside it")
        one.writer.write_eof()
        assert await one.rest() == sent
    await until(lambda: proxy.connections() == 0, seconds=PATIENCE)


async def test_a_cut_resets_what_is_there_and_what_comes_until_healed(proxy: Proxy) -> None:
    async with line(proxy) as one:
        assert await one.echoed(b"before")
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            await one.rest()
        with pytest.raises(ConnectionResetError):
            async with line(proxy) as other:
                await other.rest()
    proxy.heal()
    async with line(proxy) as another:
        assert await another.echoed(b"after")


async def test_a_black_hole_is_silent_and_delivers_in_order_once_healed(proxy: Proxy) -> None:
    async with line(proxy) as one:
        assert await one.echoed(b"before")
        assert proxy.sent() == len(b"before")
        proxy.blackhole()
        one.say(b"one ")
        async with line(proxy) as other:
            other.say(b"other")
            assert await one.silent()
            assert await other.silent()
            assert proxy.sent() == len(b"before")
            one.say(b"two")
            proxy.heal()
            assert await one.hear(7) == b"one two"
            assert await other.hear(5) == b"other"


async def test_a_delay_is_added_each_way(proxy: Proxy) -> None:
    async with line(proxy) as one:
        assert await one.echoed(b"before")
        proxy.delay(0.5)
        started = asyncio.get_running_loop().time()
        assert await one.echoed(b"late")
        assert asyncio.get_running_loop().time() - started >= 1


async def test_a_slow_link_takes_the_time_of_its_bytes(proxy: Proxy) -> None:
    async with line(proxy) as one:
        assert await one.echoed(b"before")
        proxy.throttle(20_000)
        started = asyncio.get_running_loop().time()
        assert await one.echoed(bytes(10_000))
        assert asyncio.get_running_loop().time() - started >= 0.4


async def test_truncation_lets_so_many_bytes_of_an_answer_through_and_ends_it(proxy: Proxy) -> None:
    async with line(proxy) as one:
        assert await one.echoed(b"not counted")
        proxy.truncate(1000)
        one.say(EXPANDING)
        assert await one.rest() == b"!" * 1000


async def test_truncation_lets_so_many_bytes_of_a_question_through() -> None:
    heard = bytearray()

    def listen(data: bytes) -> bytes:
        heard.extend(data)
        return b""

    async with server(listen) as port:
        with proxied(port) as proxy:
            proxy.truncate(5)
            async with line(proxy) as one:
                one.say(b"abc")
                one.say(b"defgh")
                assert await one.rest() == b""
            await until(lambda: bytes(heard) == b"abcde", seconds=PATIENCE)


async def test_what_is_forgotten_stays_silent_while_new_connections_work(proxy: Proxy) -> None:
    async with line(proxy) as one:
        assert await one.echoed(b"before")
        proxy.forget()
        one.say(b"lost")
        async with line(proxy) as other:
            assert await other.echoed(b"new")
        proxy.heal()
        assert await one.silent()


async def test_a_closed_port_is_an_error_at_the_client() -> None:
    async with server(bytes) as port:
        pass
    with proxied(port) as proxy:
        with pytest.raises(ConnectionResetError):
            async with line(proxy) as one:
                await one.rest()
        await until(lambda: proxy.connections() == 0, seconds=PATIENCE)
