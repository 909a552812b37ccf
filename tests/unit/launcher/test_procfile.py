"""What the Procfile says, and which processes follow from it."""

import sys

import pytest

from launcher.procfile import ProcfileError, Service, instances, parse


def test_a_procfile_names_services_and_runs_them_with_our_interpreter() -> None:
    services = parse("# the fleet\nhost: python -m host\n\nother:  /bin/echo 'two words'\n")
    assert services == [
        Service("host", (sys.executable, "-m", "host")),
        Service("other", ("/bin/echo", "two words")),
    ]


@pytest.mark.parametrize("line", ["python -m host", "host:", ": python", "two words: python"])
def test_a_line_that_is_no_service_is_named(line: str) -> None:
    with pytest.raises(ProcfileError, match="line 2"):
        parse(f"host: python -m host\n{line}\n")


def test_only_workers_are_multiplied() -> None:
    services = parse("host: a\nworker: b\ngateway: c\n")
    assert [name for name, _ in instances(services, 3)] == ["host", "worker.1", "worker.2", "worker.3", "gateway"]
