"""Answers of a hostile model server (:mod:`tests.security.model_server`), which the attack only asks for."""

from tests.harness.chat import JSON, body_of
from tests.harness.http import Connection
from tests.security.attacks import Attack, Subject, Target
from tests.security.attacks.bodies import OPENAI, SEED
from tests.security.model_server import ENDLESS, ODD

ATTACKS = Subject("models")


async def ask(target: Target, path: str, kind: str) -> None:
    """Have the hostile model answer so, and read what comes of it."""
    question = body_of([{"role": "user", "source": "user", "content": kind}], model="hostile")
    async with Connection(target.gateway) as connection:
        response = await connection.request("POST", path, question, JSON)
        if response.headers.get("transfer-encoding") == "chunked":
            async for _ in response.chunks():
                pass
        else:
            await response.body()


def _attack(*kinds: str) -> Attack:
    async def attack(target: Target) -> None:
        for kind in kinds:
            await ask(target, SEED, kind)
            await ask(target, OPENAI, kind)

    return attack


for _kind in ENDLESS:
    ATTACKS.add(_kind, _attack(_kind))
ATTACKS.add("odd_json", _attack(*ODD))
