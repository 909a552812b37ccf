"""What our own model clients have beside AutoGen's interface."""

from typing import Any, ClassVar, Protocol, runtime_checkable

from protos import chat_pb2 as pb
from worker.contract.sink import Sink


@runtime_checkable
class Pushed(Protocol):
    """A model's client that writes its reply into a sink."""

    as_text: ClassVar[bool]
    """Whether it only sends on what it does not know, and takes it as text; see :mod:`worker.contract.body`."""

    async def stream(self, sink: Sink, body: dict[str, Any]) -> pb.Done:
        """Write the model's reply to an OpenAI request's body into ``sink``, and return how it ended.

        Cancelling stops the model. ``body`` may be changed, and must not be kept once the request is sent. Raises
        :class:`worker.contract.errors.Unsupported` for what the provider cannot do, and what
        :mod:`worker.contract.failures` knows.
        """
