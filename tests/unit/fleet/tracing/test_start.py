"""When spans are exported, by the environment."""

import asyncio
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from fleet.tracing.export import Export
from fleet.tracing.start import start
from tests.harness.collector import Collector
from tests.harness.process import REPOSITORY
from tests.harness.scripted import listening
from tests.harness.waiting import SOON, wait_until

NOBODY = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in os.environ:
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)
    library = logging.getLogger("opentelemetry")
    handlers, propagate = library.handlers[:], library.propagate
    yield
    library.handlers[:], library.propagate = handlers, propagate
    # Before it gives up, a thread draws random numbers, which Hypothesis reports in whatever test it is drawing for.
    wait_until(lambda: not is_exporting(), 30, "no exporter runs")


def is_exporting() -> bool:
    return any(thread.name.startswith("OtelBatch") for thread in threading.enumerate())


def test_without_an_endpoint_the_sdk_is_not_even_imported() -> None:
    code = (
        "import sys, gateway.__main__, worker.__main__\n"
        "from fleet.tracing.start import start\n"
        "assert start('x', 'y') is None\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))])"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, env=environment, capture_output=True, text=True
    )
    assert (ended.stdout.strip(), ended.returncode) == ("[]", 0), ended.stderr


@pytest.mark.parametrize(
    "settings",
    [
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": NOBODY, "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": NOBODY, "OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": NOBODY, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": NOBODY, "OTEL_BSP_MAX_QUEUE_SIZE": "0"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"},
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http:///v1/traces"},
    ],
    ids=["empty", "disabled", "none", "grpc", "nonsense", "no scheme", "no host"],
)
def test_it_stays_off(settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert start("service", "member") is None


def started() -> Export:
    export = start("service", "member")
    assert export is not None
    return export


async def test_spans_have_the_service_and_the_member(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleet.tracing.export.CLOSE", SOON)
    with Collector() as collector:
        for name, value in collector.settings.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=night")
        export = started()
        export.tracer.start_span("a").end()
        export.provider.get_tracer("autogen-core").start_span("theirs").end()
        export.provider.get_tracer("mine").start_span("b").end()
        await export.close()
        assert [(span.name, span.service, span.member) for span in collector.spans] == [
            ("a", "service", "member"),
            ("b", "service", "member"),
        ]
        assert collector.headers[0]["x-tenant"] == "night"


async def test_the_environments_names_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", NOBODY)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=pod-1,deployment.environment.name=test")
    export = started()
    named = dict(export.provider.resource.attributes)
    assert (named["service.name"], named["service.instance.id"]) == ("mine", "pod-1")
    assert named["deployment.environment.name"] == "test"
    await export.close()


async def test_an_endpoint_that_is_away_is_one_warning_and_no_wait(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", NOBODY)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "8")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")
    export = started()
    for number in range(5000):
        export.tracer.start_span(str(number)).end()
    await export.close()
    assert capsys.readouterr().out.count("traces lost") == 1


async def test_settings_without_a_meaning_are_named_each(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", NOBODY)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "sometimes")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "zip")
    export = started()
    await export.close()
    said = capsys.readouterr().out
    assert said.count("tracing setting ignored") == 2
    assert "sometimes" in said
    assert "zip" in said
    assert "traces lost" not in said


async def test_an_export_that_succeeds_at_last_has_lost_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fleet.tracing.export.CLOSE", SOON)
    with Collector() as collector:
        collector.refusals = 1
        for name, value in collector.settings.items():
            monkeypatch.setenv(name, value)
        export = started()
        export.tracer.start_span("a").end()
        await asyncio.to_thread(wait_until, lambda: bool(collector.spans), 10.0, "the span at the second try")
        await export.close()
    assert capsys.readouterr().out == ""


async def test_an_endpoint_that_never_answers_does_not_keep_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with listening(hang) as url:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "10")
        export = started()
        export.tracer.start_span("a").end()
        await export.close()
        assert is_exporting(), "it still waits for the answer"
