"""An endpoint other than chat as a service: the request goes to the model as it came, and the answer comes back so."""

import msgspec
import orjson
from msgspec import Raw

from fleet.process.turns import Turns
from protos import chat_pb2 as pb
from worker.contract.errors import Unsupported
from worker.contract.observer import Observer
from worker.contract.sink import Sink
from worker.openai.client import Streaming


class PassedOn:
    """Serves ``endpoint`` of the server of ``client``, the model ``name``."""

    def __init__(self, name: str, client: Streaming, endpoint: str, turns: Turns, observer: Observer) -> None:
        self._name = name
        self._client = client
        self._endpoint = endpoint
        self._turns = turns
        self._observer = observer

    async def run(self, request: pb.ChatHistory, sink: Sink) -> pb.Done:
        """See :class:`worker.services.service.Service`."""
        async with self._turns.turn() as turn:
            try:
                members = msgspec.json.decode(request.body, type=dict[str, Raw])
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                raise Unsupported("the request's body is not a JSON object") from None
            await turn.pause()
            body = {name: orjson.Fragment(bytes(text)) for name, text in members.items()}
        streamed = members.get("stream") == Raw(b"true")
        with self._observer.model(self._name, self._client, self._endpoint) as operation:
            running = self._client.pass_on(sink, self._endpoint, body, request.model, streamed=streamed)
            del request, members, body  # they must not be kept for as long as the reply takes
            return operation.ended(await running)
