"""TLS on a socket that no asyncio transport owns."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any


async def handshake(context: ssl.SSLContext, sock: socket.socket, name: str) -> ssl.SSLSocket:
    """Secure ``sock``, whose server's certificate must be for ``name``. Raises ``OSError`` and closes the socket."""
    secured = context.wrap_socket(sock, server_hostname=name, do_handshake_on_connect=False)
    loop = asyncio.get_running_loop()
    try:
        while True:
            try:
                secured.do_handshake()
                return secured
            except ssl.SSLWantReadError:
                await _ready(secured.fileno(), loop.add_reader, loop.remove_reader)
            except ssl.SSLWantWriteError:
                await _ready(secured.fileno(), loop.add_writer, loop.remove_writer)
    except BaseException:
        secured.close()
        raise


async def _ready(fd: int, watch: Callable[..., Any], unwatch: Callable[[int], object]) -> None:
    ready = asyncio.Event()
    watch(fd, ready.set)
    try:
        await ready.wait()
    finally:
        unwatch(fd)
