"""A client's script, which runs all its flows in one process: a start of Node.js or LangChain takes seconds."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.clients.flows import CALL, RESULT, WEATHER, assert_took_the_round_trip, tag, tools_question
from tests.clients.tools import output
from tests.harness.fleet import Fleet
from tests.schedule import Schedule, reply_tokens

USAGE = {"prompt_tokens": 11, "completion_tokens": 7}

Said = Mapping[str, Any]


@dataclasses.dataclass
class Script:
    """One run of a script: the task that it gets on standard input, and what each of its flows gave."""

    stream: Schedule = dataclasses.field(default_factory=lambda: Schedule(tokens=500, usage=USAGE))
    whole: Schedule = dataclasses.field(default_factory=lambda: Schedule(tokens=100, usage=USAGE))
    tools: Schedule = dataclasses.field(default_factory=tools_question)
    reasoning: Schedule = dataclasses.field(default_factory=lambda: Schedule(reasoning=5))
    object: Schedule = dataclasses.field(
        default_factory=lambda: Schedule(tag=tag(), text='{"city": "Zürich", "degrees": 23.5}')
    )
    broken: Schedule = dataclasses.field(default_factory=lambda: Schedule(tokens=10, delay=0.01, error_after=5))
    endless: Schedule = dataclasses.field(default_factory=lambda: Schedule(tag=tag(), tokens=100_000, delay=0.01))

    def run(self, interpreter: str | Path, script: Path, fleet: Fleet) -> Said:
        """What every flow gave, by its name."""
        schedules = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        questions = {name: schedule.message() for name, schedule in schedules.items()}
        task = questions | {"base_url": f"{fleet.url}/v1", "tool": WEATHER, "result": RESULT}
        said: Said = json.loads(output([interpreter, script], json.dumps(task)))
        return said

    @property
    def before_it_broke(self) -> str:
        """What of the broken reply arrives."""
        return "".join(list(reply_tokens(self.broken))[: self.broken.cut])

    def assert_tools_were_used(self, fleet: Fleet) -> None:
        """The model's side saw the whole round trip."""
        records = fleet.backend.requests(self.tools.tag)
        assert_took_the_round_trip(records, self.tools.message(), CALL | {"result": RESULT})
