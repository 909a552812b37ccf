"""What the models of several speakers say in one run: schedules by speaker, in a message of the user's.

The backend knows who asks by the first message, which begins with the speaker's name. Each speaker's requests follow
its schedules in turn, and the last one from then on.
"""

import dataclasses
import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from tests.schedule import Schedule

HEAD = '{"play": '


@dataclasses.dataclass(frozen=True, kw_only=True)
class Play:
    parts: Mapping[str, Sequence[Schedule]]
    tag: str = dataclasses.field(default_factory=lambda: f"play-{secrets.token_hex(8)}")

    def message(self) -> str:
        """The play as the content of a user message, or a part of it."""
        parts = {name: [json.loads(said.message()) for said in part] for name, part in self.parts.items()}
        return json.dumps({"play": self.tag, "parts": parts})


@dataclasses.dataclass(frozen=True)
class Cue:
    """A speaker whose turn it is."""

    tag: str
    speaker: str
    part: list[dict[str, Any]]


def find_cue(messages: Sequence[Mapping[str, Any]]) -> Cue | None:
    """Who asks in which play, or ``None`` where no message has one."""
    for message in reversed(messages):
        content = message.get("content")
        at = content.find(HEAD) if isinstance(content, str) else -1
        if isinstance(content, str) and at >= 0:
            play, _ = json.JSONDecoder().raw_decode(content, at)
            first = str(messages[0]["content"])
            speaker = next(name for name in play["parts"] if first.startswith(name))
            return Cue(play["play"], speaker, play["parts"][speaker])
    return None
