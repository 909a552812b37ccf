"""What a model's entry denies is refused by name."""

from typing import Any

import pytest

from fleet.process.turns import Turns
from protos import chat_pb2 as pb
from worker.contract.capabilities import check
from worker.contract.errors import Unsupported

NAMES = ("vision", "function_calling", "json_output", "structured_output")
IMAGE = pb.ContentPart(image=pb.Image(url="https://x.example/a"))
LATER = pb.ContentPart(other='{"type": "input_image"}')
NEEDS: list[tuple[str, pb.ChatHistory]] = [
    ("vision", pb.ChatHistory(messages=[pb.ChatMessage(content=[pb.ContentPart(text="look"), IMAGE])])),
    ("vision", pb.ChatHistory(messages=[pb.ChatMessage(content=[LATER])])),
    ("function_calling", pb.ChatHistory(options=pb.ChatOptions(tools=[pb.Tool(name="f")]))),
    ("function_calling", pb.ChatHistory(options=pb.ChatOptions(other='{"functions": [{"name": "f"}]}'))),
    ("json_output", pb.ChatHistory(options=pb.ChatOptions(response_format='{"type": "json_object"}'))),
    ("structured_output", pb.ChatHistory(options=pb.ChatOptions(response_format='{"type": "json_schema"}'))),
]


async def checked(request: pb.ChatHistory, info: dict[str, Any]) -> None:
    async with Turns().turn() as turn:
        await check(request, info, turn)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "request_"), NEEDS)
async def test_what_is_denied_is_refused_and_named(name: str, request_: pb.ChatHistory) -> None:
    with pytest.raises(Unsupported, match=f"{name} is false in its entry"):
        await checked(request_, dict.fromkeys(NAMES, True) | {name: False})
    await checked(request_, dict.fromkeys(NAMES, False) | {name: True})
    await checked(request_, {})


async def test_what_needs_nothing_is_taken() -> None:
    file = pb.ContentPart(other='{"type": "file"}')
    request = pb.ChatHistory(
        messages=[pb.ChatMessage(content=[file])],
        options=pb.ChatOptions(other='{"functions": []}', response_format='{"type": "text"}'),
    )
    await checked(request, dict.fromkeys(NAMES, False))
