"""The threads in which tools that are plain functions run: AutoGen runs them in the loop's default executor."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from queue import SimpleQueue
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class ToolThreads(ThreadPoolExecutor):
    """At most ``threads`` calls at once; further ones wait, and are left out if their run ends before.

    A function cannot be stopped. The threads are daemons and nothing waits for them, so that one that is stuck does not
    keep the worker from ending; the standard library's would. They are the executor's only users: uvloop resolves
    names in threads of its own.
    """

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self._most = threads
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._lock = threading.Lock()
        self._started = 0
        self._unfinished = 0

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        context = copy_context()  # what a tool observes, such as spans of its own, belongs to its call

        def call() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(context.run(fn, *args, **kwargs))
                except BaseException as error:  # it is raised where the result is awaited
                    future.set_exception(error)

        with self._lock:
            self._unfinished += 1
            is_needed = self._started < min(self._most, self._unfinished)
            self._started += is_needed
        self._calls.put(call)
        if is_needed:
            threading.Thread(target=self._work, name=f"tool-{self._started}", daemon=True).start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Nothing: the threads end with the process."""

    def _work(self) -> None:
        while True:
            self._calls.get()()
            with self._lock:
                self._unfinished -= 1
