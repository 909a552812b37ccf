"""A client's script, which runs all its flows in one process: a start of Node.js or LangChain takes seconds."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.clients.flows import CALL, RESULT, WEATHER, assert_took_the_round_trip, tag, tools_question
from tests.clients.tools import output
from tests.harness.fleet import Fleet
from tests.harness.waiting import SOON, wait_until
from tests.schedule import Schedule, reasoning_tokens, reply_tokens

USAGE = {
    "prompt_tokens": 11,
    "completion_tokens": 7,
    "prompt_tokens_details": {"cached_tokens": 5},
    "completion_tokens_details": {"reasoning_tokens": 3},
}
OBJECT = '{"city": "Zürich", "degrees": 23.5}'
SIGNATURE = {"extra_content": {"google": {"thought_signature": "c2lnbmVkIPCfpqA=="}}}
REFUSAL = "I'm sorry, I cannot assist with that."

Said = Mapping[str, Any]

MESSAGES = {
    "context_length_exceeded": "This model's maximum context length is 8192 tokens, but 9000 were sent.",
    "content_filter": "The response was filtered due to the prompt triggering the content management policy.",
    "rate_limit_exceeded": "Rate limit reached for requests per minute.",
}


def assert_refusals(said: Said, kinds: Mapping[str, str]) -> None:
    """Every refusal is the exception of the SDK that ``kinds`` names by the flow, with the provider's own words."""
    codes = {"too_long": "context_length_exceeded", "filtered": "content_filter", "limited": "rate_limit_exceeded"}
    for flow, code in (codes | {"unauthorized": "invalid_api_key", "unknown_model": "model_not_found"}).items():
        failed = said[flow]
        assert kinds[flow] in failed["kinds"], failed
        assert failed["code"] == code
        assert MESSAGES.get(code, "") in failed["message"]
    assert said["limited"]["retry_after"] == "60"


def refusal(status: int, code: str, **more: Any) -> Schedule:
    """A model that refuses the request, as providers do."""
    error = {"message": MESSAGES[code], "type": "invalid_request_error", "code": code}
    return Schedule(status=status, error=error, tag=tag(), **more)


@dataclasses.dataclass
class Script:
    """One run of a script: the task that it gets on standard input, and what each of its flows gave."""

    stream: Schedule = dataclasses.field(default_factory=lambda: Schedule(tokens=500, usage=USAGE))
    whole: Schedule = dataclasses.field(default_factory=lambda: Schedule(tokens=100, usage=USAGE))
    tools: Schedule = dataclasses.field(default_factory=tools_question)
    reasoning: Schedule = dataclasses.field(default_factory=lambda: Schedule(reasoning=5))
    thinking: Schedule = dataclasses.field(default_factory=lambda: tools_question(CALL | SIGNATURE, reasoning=5))
    object: Schedule = dataclasses.field(default_factory=lambda: Schedule(tag=tag(), text=OBJECT, usage=USAGE))
    object_call: Schedule = dataclasses.field(
        default_factory=lambda: tools_question({"id": "call_1", "name": "Weather", "arguments": OBJECT})
    )
    refused: Schedule = dataclasses.field(default_factory=lambda: Schedule(text=REFUSAL, refuses=True))
    too_long: Schedule = dataclasses.field(default_factory=lambda: refusal(400, "context_length_exceeded"))
    filtered: Schedule = dataclasses.field(default_factory=lambda: refusal(400, "content_filter"))
    limited: Schedule = dataclasses.field(default_factory=lambda: refusal(429, "rate_limit_exceeded", retry_after=60))
    broken: Schedule = dataclasses.field(default_factory=lambda: Schedule(tokens=10, delay=0.01, error_after=5))
    endless: Schedule = dataclasses.field(default_factory=lambda: Schedule(tag=tag(), tokens=100_000, delay=0.01))

    def run(self, interpreter: str | Path, script: Path, fleet: Fleet, keyed_url: str = "") -> Said:
        """What every flow gave, by its name. At ``keyed_url`` is a gateway that asks for keys."""
        schedules = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        questions = {name: schedule.message() for name, schedule in schedules.items()}
        urls = {"base_url": f"{fleet.url}/v1", "keyed_url": f"{keyed_url}/v1"}
        task = questions | urls | {"tool": WEATHER, "result": RESULT}
        said: Said = json.loads(output([interpreter, script], json.dumps(task)))
        return said

    def assert_left(self, fleet: Fleet) -> None:
        """The model's side saw the client leave."""
        wait_until(
            lambda: fleet.backend.request(self.endless.tag or "")["closed"], SOON, "the model's connection is closed"
        )

    def assert_thoughts_went_back(self, records: list[Any], *, times: int = 1) -> None:
        """The model got its reasoning and its call's signature back with the call, each time."""
        thought = "".join(reasoning_tokens(self.thinking))
        turns = [
            record["body"]["messages"][2] for record in records if record["body"]["messages"][-1]["role"] == "tool"
        ]
        assert len(turns) == times
        for turn in turns:
            assert turn["reasoning_content"] == thought
            assert [call.get("extra_content") for call in turn["tool_calls"]] == [SIGNATURE["extra_content"]]

    @property
    def before_it_broke(self) -> str:
        """What of the broken reply arrives."""
        return "".join(list(reply_tokens(self.broken))[: self.broken.cut])

    def assert_tools_were_used(self, fleet: Fleet) -> None:
        """The model's side saw the whole round trip."""
        records = fleet.backend.requests(self.tools.tag)
        assert_took_the_round_trip(records, self.tools.message(), CALL | {"result": RESULT})
