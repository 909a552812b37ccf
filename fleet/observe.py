"""The port for metrics and traces: named moments of a process's life, each of which does nothing here.

An observer is made in each ``__main__`` and handed down, like the clock. No moment comes once per token.
"""

from typing import Any


class Observer:
    """Override the moments that matter. A method must return quickly and must not raise."""

    # ------------------------------------------------------------ gateway

    def request_opened(self, request_id: str, face: str, model: str, traceparent: str) -> None:
        """A valid request was admitted; its reply is not started."""

    def attempt_started(self, request_id: str, attempt: int, worker_id: str) -> None:
        """The request was sent to a worker."""

    def attempt_ended(self, request_id: str, attempt: int, code: str) -> None:
        """An attempt is over; ``code`` is empty for one that completed the reply."""

    def first_event(self, request_id: str) -> None:
        """The reply's first event arrived: at the gateway from a worker, in the worker from its service."""

    def request_closed(self, request_id: str, code: str, tokens: int) -> None:
        """The reply ended and was written, or its client left; ``code`` is ``ok``, ``client_gone`` or an error's."""

    # ------------------------------------------------------------ worker

    def run_started(self, request_id: str, attempt: int, service: str) -> None:
        """A run was accepted."""

    def run_ended(self, request_id: str, attempt: int, code: str, details: dict[str, Any]) -> None:
        """A run is over; ``code`` is ``ok``, ``cancelled`` or an error's; ``details`` has its token counts."""

    # ------------------------------------------------------------ every member

    def link_changed(self, up: bool) -> None:
        """The member joined the host, or lost it."""
