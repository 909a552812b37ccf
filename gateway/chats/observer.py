"""The port for metrics and traces: named moments of a request's life, each of which does nothing here.

An observer is made in ``__main__`` and handed down, like the clock. No moment comes once per token.
"""

from collections.abc import Sequence

from gateway.chats.chat import Chat, Record


class Observer:
    """Override the moments that matter. A method must return quickly and must not raise."""

    def opened(self, record: Record) -> None:
        """A request for a chat arrived: its face is known, nothing of it is read."""

    def attempt_started(self, chat: Chat, number: int, worker_id: str) -> None:
        """The request is sent to a worker now; what is put into ``chat.history`` goes with it."""

    def attempt_ended(self, chat: Chat, number: int, worker_id: str, code: str) -> None:
        """An attempt is over; ``code`` is empty for one that completed the reply."""

    def first_event(self, chat: Chat) -> None:
        """The reply's first event arrived."""

    def closed(self, record: Record) -> None:
        """The request was answered, or its client left. Every request that was opened is closed."""


class Observers(Observer):
    """Tells each of several, in their order."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers

    def opened(self, record: Record) -> None:
        for observer in self._observers:
            observer.opened(record)

    def attempt_started(self, chat: Chat, number: int, worker_id: str) -> None:
        for observer in self._observers:
            observer.attempt_started(chat, number, worker_id)

    def attempt_ended(self, chat: Chat, number: int, worker_id: str, code: str) -> None:
        for observer in self._observers:
            observer.attempt_ended(chat, number, worker_id, code)

    def first_event(self, chat: Chat) -> None:
        for observer in self._observers:
            observer.first_event(chat)

    def closed(self, record: Record) -> None:
        for observer in self._observers:
            observer.closed(record)
