"""Who is let in."""

import pytest

from gateway.access.access import ANYONE, Access
from gateway.access.keys import Key, digest
from gateway.errors import Forbidden, OverLimit, Unavailable
from protos import chat_pb2 as pb

HISTORY = pb.ChatHistory(request_id="r")
LIMITED = Key(name="alice", sha256=digest("s"), models=frozenset({"m"}))


def test_while_the_default_model_is_not_known_nothing_final_is_said() -> None:
    with pytest.raises(Unavailable) as refused:
        Access(None).enter(LIMITED, "", HISTORY)
    assert (refused.value.status, refused.value.code, refused.value.retryable) == (503, "no_worker", True)
    assert refused.value.headers()["retry-after"] == "1"


def test_a_model_that_is_named_or_known_is_checked() -> None:
    Access(None).enter(LIMITED, "m", HISTORY)
    with pytest.raises(Forbidden):
        Access(None).enter(LIMITED, "n", HISTORY)


def test_a_key_for_all_models_may_wait_for_a_worker() -> None:
    Access(None).enter(Key(name="bob", sha256=digest("b")), "", HISTORY)


def test_without_keys_nothing_is_limited() -> None:
    access = Access(None)
    grants = [access.enter(ANYONE, model, HISTORY) for model in ("", "m") * 100]
    assert all(grant.headers == {} for grant in grants)
    for grant in grants:
        grant.close()


def test_a_refusal_takes_no_place() -> None:
    access = Access(None)
    limited = LIMITED.model_copy(update={"concurrent": 1})
    for model, refusal in (("", Unavailable), ("n", Forbidden)):
        with pytest.raises(refusal):
            access.enter(limited, model, HISTORY)
    grant = access.enter(limited, "m", HISTORY)
    with pytest.raises(OverLimit):
        access.enter(limited, "m", HISTORY)
    grant.close()
    access.enter(limited, "m", HISTORY)
