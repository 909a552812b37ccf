"""Requests between AutoGen's own members, and who waits for which response: ``send_message`` of its runtime.

The fleet's members send none, and get none. Unlike AutoGen's host, this one always answers: what cannot be passed on,
and what its target leaves unanswered, gets a response with an ``error``, which is raised where ``send_message`` waits.
"""

import itertools
from typing import NamedTuple

from autogen_ext.runtimes.grpc.protos import agent_worker_pb2

from fleet import logs
from fleet.process.repeats import Repeats
from host import roles
from host.member import Member
from host.registry import Registry

log = logs.logger(__name__)

ASKED = 2000
"""Responses that one member may wait for."""
OWED = 4000
"""Responses that one member may owe. Failing them all, when it leaves, takes 40 ms."""
LONGEST_ID = 100
"""Characters of a request's id."""

_Message = agent_worker_pb2.Message


class _Caller(NamedTuple):
    member: Member
    request_id: str
    """The caller's own. AutoGen's members count from 1, so only the host's are unique."""


class Requests:
    """Passes requests and responses on, none larger than ``largest`` bytes."""

    def __init__(self, registry: Registry, largest: int) -> None:
        self._registry = registry
        self._largest = largest
        self._ids = itertools.count(1)
        self._owed: dict[Member, dict[str, _Caller]] = {}
        """By the member that is to respond, and the host's id."""
        self._asked: dict[Member, dict[str, Member]] = {}
        """By the member that waits, and the host's id: who is to respond."""
        self._repeats = Repeats()

    def requested(self, member: Member, message: _Message) -> None:
        """Pass a member's request on to the member that has the agent type, or tell the sender why not."""
        request = message.request
        caller, host_id = _Caller(member, request.request_id), str(next(self._ids))
        target = self._registry.owner(request.target.type)
        request.request_id = host_id
        refusal = self._refusal(caller, target, message)
        if target is None or refusal:
            self._fail(caller, refusal)
            return
        self._owed.setdefault(target, {})[host_id] = caller
        self._asked.setdefault(member, {})[host_id] = target
        target.put(message)

    def _refusal(self, caller: _Caller, target: Member | None, message: _Message) -> str:
        """Why a request cannot be passed on; empty if it can."""
        size = message.ByteSize()
        if caller.member.rights is not roles.OTHER:
            return "the role of the sender does not allow requests"
        if target is None or target.rights is not roles.OTHER:
            return f"no member has registered the agent type {message.request.target.type[:100]!r}"
        if size > self._largest:
            return f"the request is larger than {self._largest} bytes"
        if len(caller.request_id) > LONGEST_ID:
            return f"a request's id may have {LONGEST_ID} characters"
        if len(self._asked.get(caller.member, ())) >= ASKED:
            return f"the sender waits for {ASKED} responses already"
        if len(self._owed.get(target, ())) >= OWED:
            return f"the agent's member owes {OWED} responses already"
        if not target.has_room(caller.member, size):
            return "too much waits for the agent's member to read"
        return ""

    def responded(self, member: Member, message: _Message) -> None:
        """Pass a member's response on to the member that waits for it."""
        response = message.response
        caller = self._owed.get(member, {}).pop(response.request_id, None)
        if caller is None:
            self._log("dropped a response", "no one waits for it", member)
            return
        self._asked[caller.member].pop(response.request_id)
        response.request_id = caller.request_id
        size = message.ByteSize()
        if size > self._largest:
            self._fail(caller, f"the response is larger than {self._largest} bytes")
        elif not caller.member.has_room(member, size):
            self._fail(caller, "too much waits for the sender to read")
        else:
            caller.member.put(message)

    def left(self, member: Member) -> None:
        """Fail the requests that a member has not answered, and forget its own."""
        for host_id, target in self._asked.pop(member, {}).items():
            del self._owed[target][host_id]
        for host_id, caller in self._owed.pop(member, {}).items():
            self._asked[caller.member].pop(host_id)
            self._fail(caller, "the agent's member left before it responded")

    def _fail(self, caller: _Caller, reason: str) -> None:
        self._log("refused a request", reason, caller.member)
        response = agent_worker_pb2.RpcResponse(request_id=caller.request_id, error=reason)
        caller.member.put(_Message(response=response))

    def _log(self, event: str, reason: str, member: Member) -> None:
        if self._repeats.is_new(member.ticket, reason):
            log.warning(event, reason=reason, member=member.name)
