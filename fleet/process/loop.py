"""Runs a process on uvloop, with the limits and the memory settings of a server."""

import asyncio
import contextlib
import ctypes
import functools
import gc
import resource
import socket
from collections.abc import Callable, Coroutine
from typing import Any, TypeVarTuple

import uvloop

LARGE = 256 * 1024
"""Blocks of memory of this many bytes or more return to the system when they are freed."""

MOST_FILES = 1_000_000

_M_MMAP_THRESHOLD = -3
"""From glibc's malloc.h."""

_Args = TypeVarTuple("_Args")

GRPC_HANDLER = "PollerCompletionQueue._handle_events"
"""gRPC's callback on a loop, for what its own thread has done; a private part."""

WAKE_UPS = 4096
"""Bytes that are read at once of gRPC's wake-ups; a socket holds some hundred."""


class Loop(uvloop.Loop):
    """uvloop's, on which gRPC never stands still.

    gRPC's thread writes a byte to a socket for each event, and its callback on the loop handles all events but reads
    one byte. Once a loop with much to do has let some hundred bytes gather, the thread waits in that write for each
    pass of the loop, and no connection is read meanwhile: members' pings went unanswered for ten seconds and more.
    So every byte but the last, which is the callback's, is read before it is called.
    """

    def add_reader(self, fd: Any, callback: Callable[[*_Args], Any], *args: *_Args) -> None:
        called = callback.func if isinstance(callback, functools.partial) else None
        if getattr(called, "__qualname__", "") == GRPC_HANDLER and isinstance(fd, socket.socket):
            super().add_reader(fd, _read_all, fd, callback, *args)
        else:
            super().add_reader(fd, callback, *args)


def _read_all(sock: socket.socket, handle: Callable[[*_Args], Any], *args: *_Args) -> None:
    waiting = len(sock.recv(WAKE_UPS, socket.MSG_PEEK))
    if waiting > 1:
        sock.recv(waiting - 1)
    handle(*args)


def run(life: Coroutine[Any, Any, None]) -> None:
    """Like :func:`asyncio.run`."""
    # A full collection would otherwise walk everything that the imports made: 100 ms.
    gc.collect()
    gc.freeze()
    _return_large_blocks()
    raise_file_limit()
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(life)


def raise_file_limit() -> None:
    """Allow as many open files as the system permits. The usual default of 1,024 is less than the streams we serve."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if most == resource.RLIM_INFINITY else most
    with contextlib.suppress(OSError, ValueError):  # macOS reports a limit that it does not accept
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _return_large_blocks() -> None:
    # glibc raises this threshold to the largest block freed so far, and keeps such blocks in its heap from then on.
    with contextlib.suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE)
