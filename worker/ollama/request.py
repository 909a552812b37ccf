"""The body of a chat completion in the words of Ollama's own API.

What Ollama has a word for is translated. What it has none for is refused by name if it would change the reply, and goes
to Ollama as it came otherwise: servers ignore fields that they do not know.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from fleet.process.turns import Turn
from worker.contract.arguments import parsed_arguments
from worker.contract.errors import Unsupported

Json = dict[str, Any]

OPTIONS = (
    *("num_keep", "num_predict", "seed", "stop", "temperature", "top_k", "top_p", "min_p", "typical_p", "tfs_z"),
    *("repeat_last_n", "repeat_penalty", "presence_penalty", "frequency_penalty", "penalize_newline"),
    *("mirostat", "mirostat_tau", "mirostat_eta", "draft_num_predict", "num_ctx", "num_batch", "num_gpu", "main_gpu"),
    *("low_vram", "use_mmap", "use_mlock", "num_thread", "numa"),
)
"""What Ollama takes in ``options``, this year or before; here it may also stand beside them."""

FIELDS = ("format", "keep_alive", "think", "truncate", "shift", "logprobs", "top_logprobs")
"""What it takes beside them."""

_RENAMED = {"max_tokens": "num_predict", "max_completion_tokens": "num_predict", "repetition_penalty": "repeat_penalty"}

_REFUSED: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "chat_template_kwargs": ({},),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "grammar": ("",),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "n": (1,),
    "parallel_tool_calls": (True,),
    "structured_outputs": ({},),
    "thinking": (),
    "verbosity": ("medium",),
    "web_search_options": (),
}
"""What would change the reply and has no word in Ollama's API, and the values that ask for nothing."""

_EFFORTS: dict[str, Any] = {"none": False, "minimal": "low", "xhigh": "max"}
"""Efforts of OpenAI's API that ``think`` calls otherwise."""

_OURS = ("model", "stream", "stream_options", "tool_choice")


class Sent(NamedTuple):
    """An image as it was sent: the URL at ``place`` of ``images``, where its data must be."""

    images: list[str]
    place: int


async def chat(defaults: Json, body: Json, turn: Turn) -> tuple[Json, list[Sent]]:
    """The body for ``/api/chat``, and what images it holds. ``body`` goes before ``defaults``.

    Raises :class:`Unsupported`.
    """
    found = fields({name: value for name, value in body.items() if name not in ("messages", "tools")})
    options = defaults.get("options", {}) | found.pop("options", {})
    found = defaults | found
    if found.get("format") == "":
        del found["format"]
    if options:
        found["options"] = options
    if body.get("tools") and _may_call(body.get("tool_choice")):
        found["tools"] = body["tools"]
        await _check_tools(body["tools"], turn)
    messages: list[Json] = []
    images: list[Sent] = []
    names: dict[str, str] = {}
    for index, message in enumerate(body["messages"]):
        await turn.pause()
        messages.append(await _message(message, f"messages[{index}]", names, images, turn))
    return found | {"messages": messages}, images


def fields(body: Mapping[str, Any]) -> Json:
    """What stands beside messages and tools, in Ollama's words. Raises :class:`Unsupported`."""
    found: Json = {}
    options: Json = {}
    for name, value in body.items():
        if value is None or name in _OURS:
            continue
        if name in OPTIONS:
            options[name] = [value] if name == "stop" and isinstance(value, str) else value
        elif name in _RENAMED:
            options.setdefault(_RENAMED[name], value)
        elif name in _TRANSLATED:
            ours, translate = _TRANSLATED[name]
            found.setdefault(ours, translate(value))
        elif name not in _REFUSED:
            found[name] = value
        elif value not in _REFUSED[name]:
            raise Unsupported(f"{name}: Ollama has no such option")
    options |= _mapping("options", found.pop("options", None))
    return found | ({"options": options} if options else {})


def _mapping(name: str, value: Any) -> Json:
    if value is not None and not isinstance(value, dict):
        raise Unsupported(f"{name}: must be an object")
    return {name: value for name, value in (value or {}).items() if value is not None}


def _format(asked: Any) -> Any:
    """``response_format`` as ``format``: empty, ``json``, or a schema."""
    asked = _mapping("response_format", asked)
    match asked.get("type"):
        case "text":
            return ""
        case "json_object":
            return asked.get("schema") or "json"
        case "json_schema":
            return _mapping("response_format.json_schema", asked.get("json_schema")).get("schema") or "json"
        case other:
            raise Unsupported(f"response_format.type: Ollama has text, json_object and json_schema, not {other!r}")


def _reasoning(asked: Any) -> Any:
    asked = _mapping("reasoning", asked)
    if unknown := asked.keys() - {"effort", "enabled"}:
        raise Unsupported(f"reasoning.{min(unknown)}: Ollama has no such option")
    return _effort(asked.get("effort", asked.get("enabled")))


def _effort(asked: Any) -> Any:
    return _EFFORTS.get(asked, asked) if isinstance(asked, str) else asked


_TRANSLATED: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "response_format": ("format", _format),
    "reasoning_effort": ("think", _effort),
    "reasoning": ("think", _reasoning),
}
"""Fields of other APIs, what Ollama calls them, and how their values are translated."""


def _may_call(choice: Any) -> bool:
    """Whether tools are sent. Raises :class:`Unsupported` for a choice that the model would not be bound by."""
    if choice not in (None, "auto", "none"):
        asked = repr(choice) if isinstance(choice, str) else "a choice of tools"
        raise Unsupported(f"tool_choice: Ollama has auto and none, not {asked}")
    return bool(choice != "none")


async def _check_tools(tools: list[Any], turn: Turn) -> None:
    for index, tool in enumerate(tools):
        await turn.pause()
        if not isinstance(tool, dict) or tool.get("type", "function") != "function":
            raise Unsupported(f"tools[{index}]: Ollama has functions only")


# ---------------------------------------------------------------- messages

_ROLES = {"developer": "system", "function": "tool"}
_TAKEN = ("role", "content", "refusal", "reasoning", "reasoning_content", "tool_calls", "name")


async def _message(message: Json, where: str, names: dict[str, str], images: list[Sent], turn: Turn) -> Json:
    """``names`` are those of the functions that were called, by the ids of the calls."""
    role = message["role"]
    made: Json = {"role": _ROLES.get(role, role), "content": ""}
    made |= {name: value for name, value in message.items() if name not in _TAKEN and value is not None}
    content = message.get("content") or message.get("refusal") or ""
    made["content"] = content if isinstance(content, str) else await _content(content, where, made, images, turn)
    if thinking := message.get("reasoning_content") or message.get("reasoning"):
        made.setdefault("thinking", thinking)
    if message.get("function_call"):
        raise Unsupported(f"{where}.function_call: Ollama has tool_calls instead")
    if calls := message.get("tool_calls"):
        made["tool_calls"] = []
        for index, call in enumerate(calls):
            await turn.pause()
            made["tool_calls"].append(_call(call, f"{where}.tool_calls[{index}]", names))
    name = message.get("name")
    if made["role"] == "tool":
        if name or (name := names.get(str(message.get("tool_call_id")))):
            made.setdefault("tool_name", name)
    elif name:
        made["name"] = name
    return made


async def _content(parts: Iterable[Any], where: str, made: Json, images: list[Sent], turn: Turn) -> str:
    """The text of ``parts``; images and sounds go beside it, in the one list that Ollama has for both."""
    texts: list[str] = []
    media: list[str] = []
    for index, part in enumerate(parts):
        await turn.pause()
        at = f"{where}.content[{index}]"
        part = _mapping(at, part)
        kind = part.get("type")
        value = part.get(kind) if isinstance(kind, str) else None
        match kind:
            case "text" | "refusal":
                texts.append(_text(at, value))
            case "image_url":
                images.append(Sent(media, len(media)))
                media.append(_text(at, value["url"] if isinstance(value, dict) and "url" in value else value))
            case "input_audio":
                media.append(_text(at, _mapping(at, value).get("data")))
            case _:
                raise Unsupported(f"{at}: Ollama takes text, images and sounds, not {kind!r}")
    if media:
        made["images"] = media
    return "\n".join(texts)


def _text(where: str, value: Any) -> str:
    if not isinstance(value, str):
        raise Unsupported(f"{where}: must be text")
    return value


def _call(call: Any, where: str, names: dict[str, str]) -> Json:
    """A call of the conversation, whose arguments are an object for Ollama."""
    call = _mapping(where, call)
    if call.get("type", "function") != "function":
        raise Unsupported(f"{where}.type: Ollama has functions only, not {call['type']!r}")
    function = _mapping(where, call.get("function"))
    arguments = parsed_arguments(function.get("arguments"), f"{where}.function.arguments")
    if isinstance(call.get("id"), str):
        names[call["id"]] = function.get("name", "")
    return {**call, "function": {**function, "arguments": arguments}}
