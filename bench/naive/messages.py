"""What travels between gateway and worker."""

from dataclasses import dataclass

from autogen_core import TopicId

CHATS = TopicId("chats", "default")
CHUNKS = TopicId("chunks", "default")


@dataclass
class Chat:
    """A request: roles and contents of its turns, the oldest first."""

    request_id: str
    roles: list[str]
    contents: list[str]


@dataclass
class Chunk:
    """One token of the reply, or its end."""

    request_id: str
    content: str
    finish_reason: str = ""
