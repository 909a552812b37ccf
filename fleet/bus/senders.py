"""Tells messages that come from whom they name from those that another member published in its name."""

from typing import Any

from fleet import logs
from fleet.process.repeats import Repeats

log = logs.logger(__name__)


class Senders:
    """Compares the host's stamp on a message with what the message says; what does not fit is logged, seldom."""

    def __init__(self) -> None:
        self._repeats = Repeats()

    def believes(self, message: Any, claimed: str) -> bool:
        """Whether ``message``, one of ``protos/chat.proto``, was published by the member ``claimed``.

        A host of the version before stamps nothing; its messages are believed.
        """
        stamps = message.sent_by
        if not stamps or stamps[0] == claimed:
            return True
        if self._repeats.is_new(stamps[0]):
            kind = message.DESCRIPTOR.name
            log.warning("dropped a message in another's name", kind=kind, sender=stamps[0], claimed=claimed[:100])
        return False
