"""The command itself."""

import argparse
from collections.abc import Iterator

import pytest

from doctor import arguments
from doctor.doctor import show
from doctor.findings import Finding, ok


def test_a_defect_in_one_section_does_not_hide_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> Iterator[Finding]:
        yield ok("before")
        raise KeyError("missing")

    assert show([("first", broken()), ("second", iter([ok("after")]))]) == 1
    said = capsys.readouterr().out
    assert "could not be looked at: KeyError: 'missing'" in said
    assert "after" in said


@pytest.mark.parametrize("url", ["localhost:8501", "nonsense", ""])
def test_a_gateway_that_is_no_url_is_refused(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    arguments.add(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--gateway", url])
    assert "such as http://127.0.0.1:8501" in capsys.readouterr().err
