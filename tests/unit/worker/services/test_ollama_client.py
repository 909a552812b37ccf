"""AutoGen's Ollama client with images as bytes."""

from base64 import b64encode
from typing import Any

from autogen_core.models import ChatCompletionClient, ModelInfo, UserMessage

from tests.unit.worker.pictures import file, image, url
from worker.services.ollama_client import BytesOllamaClient

INFO = ModelInfo(vision=True, function_calling=True, json_output=True, family="unknown", structured_output=True)


async def test_ollamas_sdk_gets_bytes_which_name_no_file() -> None:
    client = ChatCompletionClient.load_component(
        {
            "provider": "worker.services.ollama_client.BytesOllamaClient",
            "component_type": "model",
            "config": {"model": "llava", "model_info": INFO},
        }
    )
    assert isinstance(client, BytesOllamaClient)
    data = file("PNG")
    asked = client._process_create_args(
        [UserMessage(content=["a", image(url(data))], source="u")], [], "auto", None, {}
    )
    (sent,) = asked.messages[0].images
    assert sent.value == data
    content: Any = sent.model_dump()
    assert content == b64encode(data).decode()
    await client.close()
