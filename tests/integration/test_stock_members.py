"""Programs with AutoGen's own member runtime on ``python -m host``, as ``docs/members.md`` promises."""

import asyncio
import contextlib
import re
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from autogen_core import (
    AgentId,
    DefaultTopicId,
    MessageContext,
    RoutedAgent,
    TypePrefixSubscription,
    TypeSubscription,
    default_subscription,
    event,
    rpc,
    try_get_known_serializers_for_type,
)
from autogen_ext.runtimes.grpc import GrpcWorkerAgentRuntime
from autogen_ext.runtimes.grpc.protos import agent_worker_pb2 as rpcs

from tests.harness.fleet import Fleet
from tests.harness.ports import free_port
from tests.harness.process import REPOSITORY, Process, end_all
from tests.harness.waiting import SOON, eventually, until

MIB = 2**20
OTHERS, WORKERS = "the-token-of-other-programs", "the-token-of-all-workers"


@dataclass
class Text:
    text: str


class Echo(RoutedAgent):
    """Responds with what it was sent, once it may, and notes it."""

    def __init__(self, may_respond: asyncio.Event, asked: list[str]) -> None:
        super().__init__("echoes")
        self._may_respond = may_respond
        self._asked = asked

    @rpc
    async def respond(self, message: Text, ctx: MessageContext) -> Text:
        self._asked.append(message.text)
        await self._may_respond.wait()
        if message.text == "fail":
            raise ValueError("it was told to fail")
        return Text("x" * 5 * MIB if message.text == "large" else f"{self.id.key}: {message.text}")


@default_subscription
class Ear(RoutedAgent):
    """Notes what is published."""

    def __init__(self, heard: list[str]) -> None:
        super().__init__("listens")
        self._heard = heard

    @event
    async def hear(self, message: Text, ctx: MessageContext) -> None:
        self._heard.append(message.text)


class Program:
    """A program with AutoGen's runtime."""

    def __init__(self, address: str, options: Sequence[tuple[str, Any]] = ()) -> None:
        # Otherwise all of this process would share one connection, with 16 calls at once.
        own_connection = ("grpc.use_local_subchannel_pool", 1)
        self.runtime = GrpcWorkerAgentRuntime(address, extra_grpc_config=[own_connection, *options])
        self.runtime.add_message_serializer(try_get_known_serializers_for_type(Text))
        self.heard: list[str] = []
        self.asked: list[str] = []
        self.may_respond = asyncio.Event()
        self.may_respond.set()

    async def serve(self, agent_type: str) -> None:
        await Echo.register(self.runtime, agent_type, lambda: Echo(self.may_respond, self.asked))

    async def listen(self, agent_type: str) -> None:
        await Ear.register(self.runtime, agent_type, lambda: Ear(self.heard))

    async def ask(self, text: str, agent_type: str = "echo", key: str = "k") -> str:
        async with asyncio.timeout(SOON):
            response = await self.runtime.send_message(Text(text), AgentId(agent_type, key))
        assert isinstance(response, Text)
        return response.text

    async def say(self, text: str) -> None:
        await self.runtime.publish_message(Text(text), DefaultTopicId())

    async def lose(self) -> None:
        """Lose the connection, as when the program dies: what it runs answers no more."""
        assert self.runtime._host_connection is not None
        with contextlib.suppress(asyncio.CancelledError):
            await self.runtime._host_connection.close()

    async def leave(self) -> None:
        self.may_respond.set()
        async with asyncio.timeout(SOON):
            await self.runtime.stop()


class Host:
    """A host process and the programs of a test."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        bind = {"HOST_BIND": self.address, "HOST_RELAY_BIND": f"127.0.0.1:{free_port()}"}
        self.process = Process("host", "host", folder, bind | settings)
        self.process.start()
        self.process.wait_for_log("listening", SOON)
        self._programs = contextlib.AsyncExitStack()
        self._logged = 0

    async def join(self, *options: tuple[str, Any]) -> Program:
        program = Program(self.address, options)
        await program.runtime.start()
        self._programs.push_async_callback(self._end, program)
        return program

    async def _end(self, program: Program) -> None:
        if program.runtime._running:
            await program.leave()

    def begin(self) -> None:
        self._logged = self.process.log_size()

    def lines(self, event: str) -> list[str]:
        """Of this test and event, in the host's log. A reason may say the same words."""
        return [line for line in self.process.log(self._logged).splitlines() if f'event="{event}"' in line]

    async def end(self) -> None:
        """End the programs, and wait until the host has forgotten them."""
        await self._programs.aclose()
        joined = {member_of(line) for line in self.lines("member joined")}
        await eventually(lambda: {member_of(line) for line in self.lines("member left")} == joined, SOON, "all left")


def member_of(line: str) -> str:
    found = re.search(r" member=(\S+)", line)
    assert found
    return found[1]


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    host = Host(tmp_path_factory.mktemp("host"))
    yield host
    end_all([host.process])
    assert "Traceback" not in host.process.log()


@pytest.fixture
async def host(process: Host) -> AsyncIterator[Host]:
    process.begin()
    yield process
    await process.end()


# ---------------------------------------------------------------- requests


async def test_an_agent_responds_to_other_programs_and_to_its_own(host: Host) -> None:
    server, client = await host.join(), await host.join()
    await server.serve("echo")
    assert await client.ask("hello") == "k: hello"
    assert await server.ask("hello") == "k: hello"
    assert await client.ask("hello", key="other") == "other: hello"


async def test_what_an_agent_raises_reaches_who_asked(host: Host) -> None:
    server, client = await host.join(), await host.join()
    await server.serve("echo")
    with pytest.raises(Exception, match="it was told to fail"):
        await client.ask("fail")
    assert await client.ask("again") == "k: again"


async def test_responses_find_the_one_that_asked_though_all_count_their_requests_alike(host: Host) -> None:
    server, clients = await host.join(), [await host.join() for _ in range(3)]
    await server.serve("echo")
    server.may_respond.clear()
    asked = [asyncio.create_task(client.ask(f"{n}-{m}")) for n, client in enumerate(clients) for m in range(20)]
    await until(lambda: len(server.asked) == 60, SOON, "all requests")
    server.may_respond.set()
    assert await asyncio.gather(*asked) == [f"k: {n}-{m}" for n in range(3) for m in range(20)]


async def test_a_request_to_an_agent_that_does_not_exist_is_refused_at_once(host: Host) -> None:
    client = await host.join()
    for _ in range(3):
        with pytest.raises(Exception, match="no member has registered the agent type 'nobody'"):
            await client.ask("hello", "nobody")
    assert len(host.lines("refused a request")) == 1


async def test_a_request_fails_when_the_agents_program_goes(host: Host) -> None:
    server, client = await host.join(), await host.join()
    await server.serve("echo")
    server.may_respond.clear()
    asked = [asyncio.create_task(client.ask("hello")) for _ in range(5)]
    await until(lambda: len(server.asked) == 5, SOON, "the requests")
    await server.lose()
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert {str(result) for result in results} == {"the agent's member left before it responded"}
    with pytest.raises(Exception, match="no member has registered"):
        await client.ask("hello")


async def test_a_response_to_one_that_has_left_harms_nobody(host: Host) -> None:
    server, client, other = [await host.join() for _ in range(3)]
    await server.serve("echo")
    server.may_respond.clear()
    asked = asyncio.create_task(client.ask("hello"))
    await until(lambda: server.asked, SOON, "the request")
    await client.lose()
    # Until then the host takes it for present, and passes the response on.
    await eventually(lambda: host.lines("member left"), SOON, "what the host says")
    server.may_respond.set()
    assert await other.ask("hello") == "k: hello"
    assert not asked.done()
    asked.cancel()
    await eventually(lambda: host.lines("dropped a response"), SOON, "what the host says")


async def test_a_response_that_the_caller_cannot_receive_is_an_error(host: Host) -> None:
    server, client = await host.join(("grpc.max_send_message_length", -1)), await host.join()
    await server.serve("echo")
    with pytest.raises(Exception, match="the response is larger than 4194304 bytes"):
        await client.ask("large")
    assert await client.ask("small") == "k: small"


async def test_larger_messages_pass_where_the_host_and_all_programs_allow_them(tmp_path: Path) -> None:
    host = Host(tmp_path, HOST_MAX_MESSAGE=str(8 * MIB))
    large = [(f"grpc.max_{way}_message_length", 8 * MIB) for way in ("send", "receive")]
    try:
        server, client = await host.join(*large), await host.join(*large)
        await server.serve("echo")
        await server.listen("ear")
        assert len(await client.ask("large")) == 5 * MIB
        await client.say("y" * 6 * MIB)
        await until(lambda: server.heard, SOON, "the event")
        await host.end()
    finally:
        end_all([host.process])


async def test_the_fleets_members_get_no_requests() -> None:
    with Fleet(workers=1) as fleet:
        program = Program(f"127.0.0.1:{fleet.host_port}")
        await program.runtime.start()
        (worker,) = fleet.ready_workers()
        for agent_type in (f"my_agent.{worker['id']}", f"gateway.{fleet.status()['gateway']['id']}"):
            with pytest.raises(Exception, match="no member has registered"):
                await program.ask("hello", agent_type)
        await program.leave()


# ---------------------------------------------------------------- agent types, subscriptions, events


async def test_an_agent_type_belongs_to_the_first_until_it_leaves(host: Host) -> None:
    first, second, client = [await host.join() for _ in range(3)]
    await first.serve("echo")
    with pytest.raises(grpc.aio.AioRpcError, match="Agent type echo already registered") as refused:
        await second.serve("echo")
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert await client.ask("hello") == "k: hello"
    assert first.asked == ["hello"]
    await first.leave()
    # Its runtime does not wait for the host, which may be busy with another connection.
    await eventually(lambda: host.lines("member left"), SOON, "what the host says")
    third = await host.join()
    await third.serve("echo")
    assert await client.ask("hello") == "k: hello"
    assert third.asked == ["hello"]


async def test_a_subscription_is_made_once_and_can_be_removed(host: Host) -> None:
    ear, other = await host.join(), await host.join()
    await Ear.register(ear.runtime, "ear", lambda: Ear(ear.heard), skip_class_subscriptions=True)
    subscription = TypeSubscription("default", "ear")
    await ear.runtime.add_subscription(subscription)
    connection = ear.runtime._host_connection
    assert connection is not None
    again = rpcs.TypeSubscription(topic_type="default", agent_type="ear")
    request = rpcs.AddSubscriptionRequest(subscription=rpcs.Subscription(id="again", typeSubscription=again))
    with pytest.raises(grpc.aio.AioRpcError, match="Subscription already exists") as refused:
        await connection.stub.AddSubscription(request, metadata=connection.metadata)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    await other.say("one")
    await until(lambda: ear.heard == ["one"], SOON, "the event, once")
    await ear.runtime.remove_subscription(subscription.id)
    await ear.runtime.add_subscription(TypePrefixSubscription("other", "ear"))
    await other.say("two")
    await other.runtime.publish_message(Text("three"), DefaultTopicId("others"))
    await until(lambda: ear.heard == ["one", "three"], SOON, "what it still listens to")


async def test_an_event_reaches_every_program_that_listens(host: Host) -> None:
    one, two, speaker = [await host.join() for _ in range(3)]
    await one.listen("one")
    await two.listen("two")
    words = [str(number) for number in range(200)]
    for word in words:
        await speaker.say(word)
    await until(lambda: sorted(one.heard) == sorted(two.heard) == sorted(words), SOON, "all words")


# ---------------------------------------------------------------- what the host's log says


async def test_programs_are_in_the_log_with_their_agent_types(host: Host) -> None:
    server, client = await host.join(), await host.join()
    await server.serve("echo")
    await server.listen("ear")
    await client.ask("hello")
    joined = host.lines("member joined")
    assert [re.findall(r"agent_type=(\S+)", line) for line in joined] == [["echo"], ["ear"], []]
    assert len({member_of(line) for line in joined}) == 2
    assert all("kind=other member=ipv4:127.0.0.1:" in line for line in joined)
    await server.leave()
    await eventually(lambda: host.lines("member left"), SOON, "it has left")
    (left,) = host.lines("member left")
    assert member_of(left) == member_of(joined[0])
    assert 'agent_types="ear, echo"' in left


async def test_a_refusal_is_in_the_log_once(host: Host) -> None:
    first, second = await host.join(), await host.join()
    await first.serve("once")
    for _ in range(3):
        with pytest.raises(grpc.aio.AioRpcError):
            await second.runtime._register_agent_type("once")
    (line,) = host.lines("refused a member")
    assert 'reason="Agent type once already registered' in line


# ---------------------------------------------------------------- tokens


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host with tokens."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "tokens").write_text(f"worker {WORKERS}\nother {OTHERS}\n")
    host = Host(folder, FLEET_TOKEN_FILE=str(folder / "tokens"))
    yield host
    end_all([host.process])


def shows(token: str) -> tuple[str, str]:
    return "grpc.secondary_user_agent", f"Bearer {token}"


async def example(host: Host, token: str) -> tuple[int, str]:
    """Run the program in the documentation; its exit code and what it printed."""
    (code,) = re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs" / "members.md").read_text(), re.DOTALL)
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        code,
        env={"FLEET_HOST": host.address, "FLEET_TOKEN": token},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        printed, _ = await asyncio.wait_for(program.communicate(), 60)
    finally:
        if program.returncode is None:
            program.kill()
    assert program.returncode is not None
    return program.returncode, printed.decode()


async def test_the_documented_program_joins_with_a_token(guarded: Host) -> None:
    assert await example(guarded, OTHERS) == (0, "Greeting(text='Hello, Tory')\n")
    code, printed = await example(guarded, "another-token-altogether")
    assert code != 0
    assert "FLEET_TOKEN is missing or wrong" in printed


async def test_a_token_for_other_programs_lets_no_worker_in_and_a_workers_no_other(guarded: Host) -> None:
    program = await guarded.join(shows(OTHERS))
    with pytest.raises(grpc.aio.AioRpcError, match="it cannot join as a worker") as refused:
        await program.serve("my_agent.x")
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    worker = await guarded.join(shows(WORKERS))
    with pytest.raises(grpc.aio.AioRpcError, match="it cannot register 'echo'"):
        await worker.serve("echo")
    with pytest.raises(Exception, match="the role of the sender does not allow requests"):
        await worker.ask("hello")
    await guarded.end()


# ---------------------------------------------------------------- a whole program

ASKS = """
import asyncio
from dataclasses import dataclass
from autogen_core import AgentId, try_get_known_serializers_for_type
from autogen_ext.runtimes.grpc import GrpcWorkerAgentRuntime

@dataclass
class Text:
    text: str

async def main():
    runtime = GrpcWorkerAgentRuntime("{address}")
    runtime.add_message_serializer(try_get_known_serializers_for_type(Text))
    await runtime.start()
    try:
        await runtime.send_message(Text("hello"), AgentId("nobody", "k"))
    except Exception as error:
        print(error, flush=True)
    await runtime.stop_when_signal()

asyncio.run(main())
"""


async def test_a_program_whose_request_failed_ends_when_it_is_told_to(host: Host) -> None:
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ASKS.format(address=host.address), stdout=asyncio.subprocess.PIPE
    )
    assert program.stdout is not None
    try:
        assert b"no member has registered" in await asyncio.wait_for(program.stdout.readline(), 60)
        program.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(program.wait(), SOON) in (0, -signal.SIGINT)
    finally:
        if program.returncode is None:
            program.kill()
