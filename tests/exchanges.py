"""Generated exchanges between OpenAI clients and models, and what the fleet changes in them.

Everything a client sends reaches an OpenAI-compatible model as it came, but for what :func:`reaches` names.
"""

from typing import Any

from hypothesis import strategies as st

Json = dict[str, Any]

WORDS = st.text(st.characters(codec="utf-8"), max_size=12)
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)


def objects(*names: str, apart_from: tuple[str, ...] = ()) -> st.SearchStrategy[Json]:
    """Objects of any members: some of ``names``, and others, but none of ``apart_from``."""
    keys = st.sampled_from([*names, "x"]) | WORDS
    return st.dictionaries(keys.filter(lambda key: key not in apart_from), VALUES, max_size=3)


def extended(known: st.SearchStrategy[Json], *names: str, apart_from: tuple[str, ...] = ()) -> st.SearchStrategy[Json]:
    """``known`` objects, with members that nobody knows in addition, in any order."""
    more = objects(*names, apart_from=apart_from)
    return st.builds(lambda first, second, flip: second | first if flip else first | second, known, more, st.booleans())


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    """Objects of some of the fields, or all."""
    return st.fixed_dictionaries({}, optional=fields)


def of(needed: Json, **optional: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    made = {name: value if isinstance(value, st.SearchStrategy) else st.just(value) for name, value in needed.items()}
    return st.fixed_dictionaries(made, optional=optional)


# ------------------------------------------------------------ messages

MARK = "cache_control"
URLS = st.sampled_from(
    [
        "https://x.example/a.png",
        " HTTPS://x.example/a",
        "data:IMAGE/png; base64,QUJD",
        "data:application/pdf,x",
        "gs://b/o",
    ]
)
TEXT_PARTS = extended(of({"type": "text", "text": WORDS}), MARK, apart_from=("type", "text"))
SHOWN = extended(
    of({"url": URLS}, detail=st.sampled_from(["low", "auto", "original", "", None])),
    "format",
    apart_from=("url", "detail"),
)
IMAGE_PARTS = extended(of({"type": "image_url", "image_url": SHOWN | URLS}), MARK, apart_from=("type", "image_url"))
OTHER_PARTS = extended(
    of({"type": st.sampled_from(["file", "input_audio", "refusal", "video_url", "thinking", ""])}),
    *("file", "input_audio", "refusal", MARK),
    apart_from=("type",),
)
PARTS = st.lists(TEXT_PARTS | IMAGE_PARTS | OTHER_PARTS, max_size=4)
CONTENT = WORDS | PARTS | st.none()

CALLED = extended(
    of({"name": NAMES}, arguments=WORDS | objects("a") | st.none()), "x", apart_from=("name", "arguments")
)
CALLS = extended(
    of({"id": NAMES, "function": CALLED}, type=st.just("function")),
    *("extra_content", "index"),
    apart_from=("id", "function", "type"),
) | extended(
    of({"type": st.sampled_from(["custom", "later"])}, id=WORDS), "custom", "function", apart_from=("type", "id")
)

MESSAGES = st.one_of(
    extended(
        of({"role": st.sampled_from(["system", "developer", "user"]), "content": CONTENT}, name=WORDS | st.none()),
        *("reasoning_content", MARK, "tool_calls", "audio"),
        apart_from=("role", "content", "name", "tool_calls", "refusal", "tool_call_id"),
    ),
    extended(
        of(
            {"role": "assistant"},
            content=CONTENT,
            refusal=WORDS | st.none(),
            name=WORDS | st.none(),
            tool_calls=st.lists(CALLS, max_size=3) | st.none(),
        ),
        *("reasoning_content", "reasoning_details", "audio", "function_call", "prefix"),
        apart_from=("role", "content", "refusal", "name", "tool_calls", "tool_call_id"),
    ),
    extended(
        of({"role": "tool", "content": CONTENT, "tool_call_id": NAMES}, name=WORDS),
        *("is_error", MARK),
        apart_from=("role", "content", "tool_call_id", "name", "refusal", "tool_calls"),
    ),
    extended(
        of({"role": "function", "content": CONTENT, "name": NAMES}),
        apart_from=("role", "content", "name", "refusal", "tool_calls", "tool_call_id"),
    ),
)

# ------------------------------------------------------------ tools and options

FUNCTIONS = extended(
    of(
        {"name": NAMES},
        description=WORDS | st.none(),
        parameters=objects("type", "properties", "$defs") | st.none(),
        strict=st.booleans() | st.none(),
    ),
    apart_from=("name", "description", "parameters", "strict"),
)
TOOLS = (
    extended(of({"type": "function", "function": FUNCTIONS}), MARK, apart_from=("type", "function"))
    | extended(of({"type": st.sampled_from(["custom", "web_search", "mcp"])}), "custom", "server", apart_from=("type",))
    | objects("google_search", "function", apart_from=("type",))
)
NAMED = of({"type": "function", "function": of({"name": WORDS})})
CHOICES = st.sampled_from(["auto", "none", "required", "any", "tool:f", ""]) | NAMED | objects("type", "allowed_tools")
FORMATS = extended(
    of({"type": st.sampled_from(["text", "json_object", "json_schema", "grammar"])}),
    *("json_schema", "schema"),
    apart_from=("type",),
)
OPTIONS = some(
    model=st.sampled_from(["m", "", None]),
    stream=st.booleans() | st.none(),
    stream_options=extended(some(include_usage=st.booleans() | st.none()), apart_from=("include_usage",)) | st.none(),
    n=st.sampled_from([1, None]),
    tools=st.lists(TOOLS, max_size=3) | st.none(),
    tool_choice=CHOICES | st.none(),
    response_format=FORMATS | st.none(),
    temperature=NUMBERS | st.none(),
    top_p=NUMBERS,
    max_tokens=st.integers(-1, 2**40) | st.none(),
    max_completion_tokens=st.integers(-1, 2**40),
    stop=WORDS | st.lists(WORDS, max_size=3) | st.none(),
    seed=st.integers(-(2**63), 2**63),
    parallel_tool_calls=st.booleans(),
    logit_bias=st.dictionaries(WORDS, st.integers(-100, 100), max_size=3),
    logprobs=st.booleans(),
    top_logprobs=st.integers(0, 30),
    reasoning_effort=WORDS,
    user=WORDS,
    metadata=objects("a"),
)
UNKNOWN = (
    *("top_k", "min_p", "chat_template_kwargs", "thinking", "provider", "service_tier", "verbosity", "store"),
    *("functions", "function_call", "modalities", "audio", "prediction", "web_search_options", "extra_body", "timeout"),
)
CHECKED = (
    *("messages", "model", "stream", "stream_options", "n", "tools", "tool_choice", "response_format", "temperature"),
    *("top_p", "max_tokens", "max_completion_tokens", "stop", "seed", "parallel_tool_calls", "logit_bias", "logprobs"),
    *("top_logprobs", "reasoning_effort", "user", "metadata", "presence_penalty", "frequency_penalty"),
)
REQUESTS: st.SearchStrategy[Json] = st.builds(
    lambda messages, options, more: {**more, "messages": messages, **options},
    st.lists(MESSAGES, min_size=1, max_size=4),
    OPTIONS,
    objects(*UNKNOWN, apart_from=CHECKED),
)
"""Bodies of chat completion requests, of everything that the gateway lets pass."""


def reaches(request: Json, model: str) -> Json:
    """What a model gets of a request, if its entry in ``models.yaml`` adds nothing. The exceptions from "as it came":

    - ``model`` is the entry's name for the model.
    - ``stream`` is true, because the fleet always streams.
    - ``stream_options.include_usage`` is true, because the fleet counts.
    - A call of a function has its ``type``, and arguments if only empty ones, which OpenAI's API wants.
    """
    usage = {**(request.get("stream_options") or {}), "include_usage": True}
    messages = [
        {**message, "tool_calls": [_whole(call) for call in calls]} if (calls := message.get("tool_calls")) else message
        for message in request["messages"]
    ]
    return {**request, "messages": messages, "model": model, "stream": True, "stream_options": usage}


def _whole(call: Json) -> Json:
    whole = {"type": "function", **call}
    if whole["type"] == "function":
        whole["function"] = {"arguments": "", **call["function"]}
    return whole
