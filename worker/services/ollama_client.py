"""AutoGen's Ollama client, which gives Ollama's SDK images as bytes.

The SDK looks whether base64 is the name of a file, which it would send; for a large image that takes 200 ms of the
event loop. Private part used: ``_process_create_args``; ``tests/unit/worker/contract/test_images.py`` fails when it
changes.
"""

from base64 import b64decode
from typing import Any

from autogen_ext.models.ollama import OllamaChatCompletionClient


class BytesOllamaClient(OllamaChatCompletionClient):
    """Stands in for ``OllamaChatCompletionClient``; same configuration."""

    def _process_create_args(self, *args: Any, **kwargs: Any) -> Any:
        params = super()._process_create_args(*args, **kwargs)
        for message in params.messages:
            for image in message.images or ():
                if isinstance(image.value, str):
                    image.value = b64decode(image.value)
        return params
