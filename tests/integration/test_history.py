"""What the model is told: the whole conversation, in order, with the right roles."""

import asyncio
import secrets
from typing import Any

from tests.harness.chat import ask, assert_complete
from tests.harness.fleet import SYSTEM_MESSAGE, Fleet
from tests.schedule import Schedule

Turn = dict[str, str]


async def told(fleet: Fleet, *turns: Turn) -> list[dict[str, Any]]:
    """What the backend receives when a conversation of ``turns`` ends in one more user turn, without that turn."""
    tag = f"history-{secrets.token_hex(8)}"
    schedule = Schedule(tag=tag)
    last = {"source": "user", "content": schedule.message()}
    assert_complete(await ask(fleet.address, [*turns, last]), schedule)
    messages: list[dict[str, Any]] = fleet.backend.request(tag)["body"]["messages"]
    assert (messages[-1]["role"], messages[-1]["content"]) == ("user", schedule.message())
    return messages[:-1]


def turn(source: str, content: str) -> Turn:
    return {"source": source, "content": content}


def plain(messages: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in messages]


async def test_the_system_message_comes_first(fleet: Fleet) -> None:
    assert plain(await told(fleet)) == [("system", SYSTEM_MESSAGE)]


async def test_the_whole_history_is_told_in_order(fleet: Fleet) -> None:
    messages = await told(
        fleet,
        turn("user", "Hello, I'm Tory."),
        turn("assistant", "Hello Tory, nice to meet you!"),
        turn("user", "How are you?"),
        turn("assistant", "Well."),
    )
    assert plain(messages) == [
        ("system", SYSTEM_MESSAGE),
        ("user", "Hello, I'm Tory."),
        ("assistant", "Hello Tory, nice to meet you!"),
        ("user", "How are you?"),
        ("assistant", "Well."),
    ]


async def test_a_system_turn_follows_the_models_own(fleet: Fleet) -> None:
    messages = await told(fleet, turn("system", "Answer in French."), turn("user", "Hello"), turn("assistant", "Salut"))
    assert plain(messages) == [
        ("system", SYSTEM_MESSAGE),
        ("system", "Answer in French."),
        ("user", "Hello"),
        ("assistant", "Salut"),
    ]


async def test_any_other_source_is_an_assistant(fleet: Fleet) -> None:
    messages = await told(fleet, turn("user", "Hello"), turn("research_agent", "Found it."), turn("écrivain", "Écrit."))
    assert plain(messages)[1:] == [("user", "Hello"), ("assistant", "Found it."), ("assistant", "Écrit.")]


async def test_text_reaches_the_model_unchanged(fleet: Fleet) -> None:
    odd = 'é 漢字 👩‍🚀 "quoted" back\\slash\ttab\nline\r\nline \u2028 </s> {"json": 1} ${HOME}  \u0000 end '
    assert plain(await told(fleet, turn("user", odd), turn("assistant", odd)))[1:] == [
        ("user", odd),
        ("assistant", odd),
    ]


async def test_a_long_history_arrives_whole(fleet: Fleet) -> None:
    turns = [turn("user" if number % 2 == 0 else "assistant", f"{number} " * 200) for number in range(400)]
    assert plain(await told(fleet, *turns))[1:] == [(each["source"], each["content"]) for each in turns]


async def test_conversations_at_the_same_time_do_not_mix(fleet: Fleet) -> None:
    told_to = await asyncio.gather(*[told(fleet, turn("user", f"number {number}")) for number in range(20)])
    assert [plain(messages)[1:] for messages in told_to] == [[("user", f"number {number}")] for number in range(20)]
