"""A TCP proxy that breaks what passes through it.

It lives on a thread of its own, so that it goes on while a test blocks, and is told what to do from the test's thread::

    with Proxy(("127.0.0.1", host_port)) as proxy:
        ...             # members dial proxy.address
        proxy.hold()    # half-open: connections stay, nothing passes, not even an end
        proxy.flow()
        proxy.sever()   # every connection is reset; new ones pass
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable
from typing import Literal, Self

Address = tuple[str, int]
Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Direction = Literal["up", "down"]
"""``up`` is from the one who dialled to the one who listens."""

PIECE = 64 * 1024
IN_FLIGHT = 256
"""Pieces that a delay may hold back in each direction of a connection."""


class Proxy:
    """Passes connections on to ``target`` until told otherwise. It listens at ``at``, by default at a free port."""

    def __init__(self, target: Address, at: Address = ("127.0.0.1", 0)) -> None:
        self._target = target
        self._at = at
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._open: dict[Direction, asyncio.Event] = {"up": asyncio.Event(), "down": asyncio.Event()}
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server
        self._delay = 0.0
        self._refuses = False
        self.address: Address

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._start)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    # ------------------------------------------------------------ for the test's thread

    def flow(self) -> None:
        """Pass everything on, including what was held back, without delay."""
        self._call(self._flow)

    def hold(self, *directions: Direction) -> None:
        """Pass nothing on, in both directions or in those named, and keep every socket open, old or new."""
        for direction in directions or ("up", "down"):
            self._call(self._open[direction].clear)

    def delay(self, seconds: float) -> None:
        """Pass everything on so much later, in order."""
        self._delay = seconds

    def refuse(self) -> None:
        """Reset new connections at once; :meth:`flow` ends it."""
        self._refuses = True

    def sever(self) -> None:
        """Reset every connection that is open now."""
        self._call(self._reset_all)

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._links)

    # ------------------------------------------------------------ on the proxy's own thread

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _call(self, action: Callable[[], object]) -> None:
        async def act() -> None:
            result = action()
            if asyncio.iscoroutine(result):
                await result

        asyncio.run_coroutine_threadsafe(act(), self._loop).result(10)

    async def _start(self) -> None:
        self._flow()
        self._server = await asyncio.start_server(self._serve, *self._at, backlog=1024)
        self.address = self._server.sockets[0].getsockname()[:2]

    async def _stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _flow(self) -> None:
        self._delay = 0.0
        self._refuses = False
        for gate in self._open.values():
            gate.set()

    def _reset_all(self) -> None:
        for link in list(self._links):
            link.reset()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            async with ending(writer):
                await self._pass_on((reader, writer))
        except asyncio.CancelledError:
            pass  # by _stop, which waits for this task; asyncio before 3.12 would report it as an error
        finally:
            self._tasks.discard(task)

    async def _pass_on(self, client: Ends) -> None:
        try:
            if self._refuses:
                raise ConnectionRefusedError
            server = await asyncio.open_connection(*self._target)
        except OSError:
            abort(client[1])
            return
        link = _Link(self, client, server)
        self._links.add(link)
        try:
            async with ending(server[1]):
                await link.run()
        finally:
            self._links.discard(link)

    async def gate(self, direction: Direction) -> None:
        """Until this direction is open."""
        await self._open[direction].wait()

    def due(self) -> float:
        """When a piece that arrives now shall leave."""
        return self._loop.time() + self._delay


class _Link:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, client: Ends, server: Ends) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server

    async def run(self) -> None:
        """Until both ends have closed, or one was reset."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump("up", self._client[0], self._server[1]))
                group.create_task(self._pump("down", self._server[0], self._client[1]))
        except* ConnectionError:
            self.reset()

    def reset(self) -> None:
        abort(self._client[1])
        abort(self._server[1])

    async def _pump(self, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(IN_FLIGHT)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._take(direction, reader, pieces))
            group.create_task(self._give(direction, writer, pieces))

    async def _take(
        self, direction: Direction, reader: asyncio.StreamReader, pieces: asyncio.Queue[tuple[float, bytes]]
    ) -> None:
        piece = b"something"
        while piece:
            piece = await reader.read(PIECE)
            await pieces.put((self._proxy.due(), piece))

    async def _give(
        self, direction: Direction, writer: asyncio.StreamWriter, pieces: asyncio.Queue[tuple[float, bytes]]
    ) -> None:
        while True:
            due, piece = await pieces.get()
            await asyncio.sleep(due - asyncio.get_running_loop().time())
            await self._proxy.gate(direction)
            if not piece:
                writer.write_eof()
                return
            writer.write(piece)
            await writer.drain()


@contextlib.asynccontextmanager
async def ending(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    """Close ``writer`` at the end, at once if that end is a cancellation."""
    try:
        yield
    except asyncio.CancelledError:
        abort(writer)
        raise
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def abort(writer: asyncio.StreamWriter) -> None:
    """Close with an RST."""
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
