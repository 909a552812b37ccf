"""AutoGen's Ollama client with images as bytes and bounded responses.

Ollama's SDK checks whether base64 names a file, which it would send; for a large image that blocks the event loop for
200 ms. Private names used: ``_process_create_args`` and ``_client``; a test of images fails when one changes.
"""

from base64 import b64decode
from typing import Any

from autogen_ext.models.ollama import OllamaChatCompletionClient

from worker.wire.httpx_transport import bound_httpx


class BytesOllamaClient(OllamaChatCompletionClient):
    """Stands in for ``OllamaChatCompletionClient``; same configuration."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        bound_httpx(self._client._client)

    def _process_create_args(self, *args: Any, **kwargs: Any) -> Any:
        params = super()._process_create_args(*args, **kwargs)
        for message in params.messages:
            for image in message.images or ():
                if isinstance(image.value, str):
                    image.value = b64decode(image.value)
        return params
