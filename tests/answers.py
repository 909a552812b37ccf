"""Streams of OpenAI-compatible models with fields that nobody here knows, and what a client must make of them.

``told`` folds the chunks of a stream, the model's or ours, as a client does that knows the rules of
docs/architecture.md. It is written apart from the product's own merging, one chunk after the other.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from random import Random
from typing import Any

Json = dict[str, Any]
Make = Callable[["Draw"], Any]

ALPHABET = 'aZ0 "\\\n\r\t/{}[],:\x00\x7f\x85\u2028é漢👩\u200d🚀'
ENDS = {
    **{word: word for word in ("stop", "length", "tool_calls", "content_filter", "x_reason", "PAUSE")},
    "max_tokens": "length",
    "SAFETY": "content_filter",
    "tool_use": "tool_calls",
    "end_turn": "stop",
}
"""What models say at the end, and what clients are told."""
LABELS = {"type", "id", "index", "name", "format", "role", "object"}
OURS = {"id", "object", "created", "model", "obfuscation", "choices", "usage"}


class Draw(Random):
    """Draws JSON values."""

    def text(self) -> str:
        return "".join(self.choices(ALPHABET, k=self.randrange(6)))

    def number(self) -> float:
        return self.choice([0, -1, 1.5, 2**53, -1e-9, self.randrange(10**6), self.random() * 1e9])

    def scalar(self) -> Any:
        return self.choice([self.text(), self.number(), self.random() < 0.5])

    def value(self, depth: int = 0) -> Any:
        match self.randrange(6 if depth < 3 else 4):
            case 0 | 1:
                return self.text()
            case 2:
                return self.scalar()
            case 3:
                return None
            case 4:
                return [self.value(depth + 1) for _ in range(self.randrange(4))]
            case _:
                return self.object(depth)

    def object(self, depth: int = 0) -> Json:
        return {self.text(): self.value(depth + 1) for _ in range(self.randrange(4))}

    def listed(self, make: Callable[[], Any]) -> list[Any]:
        return [make() for _ in range(self.randrange(3))]

    def some(self, fields: dict[str, Make]) -> Json:
        """A few of the fields; one is null now and then."""
        names = self.sample(sorted(fields), self.choice([0, 0, 1, 2]))
        return {name: None if self.random() < 0.1 else fields[name](self) for name in names}

    def optional(self, **fields: Any) -> Json:
        return {name: value for name, value in fields.items() if self.random() < 0.5}


def _detail(draw: Draw) -> Json:
    detail = {"type": "reasoning.text", "text": draw.text()}
    return detail | draw.optional(index=draw.randrange(3), signature=draw.text(), x=draw.text())


DELTA_FIELDS: dict[str, Make] = {
    "refusal": Draw.text,
    "reasoning_details": lambda draw: draw.listed(lambda: _detail(draw)),
    "annotations": lambda draw: draw.listed(draw.object),
    "images": lambda draw: draw.listed(draw.value),
    "audio": lambda draw: draw.optional(id="a1", data=draw.text(), expires_at=draw.number()),
    "x_text": Draw.text,
    "x_number": Draw.number,
    "x_object": lambda draw: draw.optional(a=draw.text(), b=draw.listed(draw.value), c=draw.random() < 0.5),
}
CHOICE_FIELDS: dict[str, Make] = {
    "stop_reason": Draw.scalar,
    "native_finish_reason": Draw.text,
    "content_filter_results": Draw.object,
    "x_choice": Draw.value,
}
CHUNK_FIELDS: dict[str, Make] = {
    "system_fingerprint": Draw.text,
    "service_tier": lambda draw: draw.choice(["default", "flex"]),
    "provider": Draw.text,
    "citations": lambda draw: draw.listed(draw.text),
    "x_groq": Draw.object,
    "timings": lambda draw: {"predicted_ms": draw.number()},
    "x_chunk": Draw.value,
}


def _usage(draw: Draw) -> Json:
    counts = {"prompt_tokens": draw.randrange(10**6), "completion_tokens": draw.randrange(10**6)}
    details = {"cached_tokens": draw.randrange(100)} | draw.object()
    total = draw.randrange(10**7)
    return counts | draw.optional(total_tokens=total, cost=draw.number(), prompt_tokens_details=details, x=draw.value())


def _token(draw: Draw) -> Json:
    return {"token": draw.text(), "logprob": draw.number()} | draw.optional(top_logprobs=draw.value())


def _deltas(draw: Draw) -> Iterable[Json]:
    """Deltas of text, reasoning and parts of calls, with other fields, or only those."""
    yield {"role": "assistant", "content": draw.choice(["", None])}
    calls = 0
    for _ in range(draw.randint(1, 8)):
        delta = draw.some(DELTA_FIELDS)
        match draw.randrange(5):
            case 0:
                function = {"name": f"f{calls}", "arguments": draw.text()}
                more = draw.optional(extra_content={"google": {"thought_signature": draw.text()}}, x_call=draw.text())
                call = {"index": calls, "id": f"c{calls}", "type": "function", "function": function, **more}
                yield {**delta, "tool_calls": [call]}
                rest = draw.text().lstrip("{[")  # else it could be the same arguments once more, which are left out
                yield {"tool_calls": [{"index": calls, "function": {"arguments": rest}}]}
                calls += 1
            case 1:
                yield {"content": "", **delta}
            case 2:
                yield {**delta, draw.choice(["reasoning_content", "reasoning"]): draw.text()}
            case _:
                yield {**delta, "content": draw.text()}
    yield {"content": "."}  # an empty reply with fields that are not understood is an error


def stream(draw: Draw) -> list[Json]:
    """The chunks of a whole stream."""
    chunks: list[Json] = []
    for number, delta in enumerate(_deltas(draw)):
        choice = {**draw.some(CHOICE_FIELDS), "index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
        if draw.random() < 0.2:
            tokens = [_token(draw) for _ in range(draw.randint(1, 2))]
            choice["logprobs"] = {"content": tokens, "refusal": draw.choice([None, [], tokens])}
        head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "served"}
        chunks.append({**head, **draw.some(CHUNK_FIELDS), "choices": [choice], "obfuscation": "x" * number})
    end = {"index": 0, "delta": {}, "finish_reason": draw.choice(sorted(ENDS)), **draw.some(CHOICE_FIELDS)}
    chunks.append({"choices": [end], **draw.some(CHUNK_FIELDS)})
    if draw.random() < 0.7:
        chunks.append({"choices": [], "usage": _usage(draw), **draw.some(CHUNK_FIELDS)})
    return chunks


def body(draw: Draw, chunks: Sequence[Json]) -> list[bytes]:
    """The bytes of a stream, cut anywhere, with the line ends and keep-alives that servers use."""
    end = draw.choice([b"\n", b"\n", b"\r\n", b"\r"])
    made = draw.choice([b"", b"", b"\xef\xbb\xbf", b": hello" + 2 * end])
    for chunk in chunks:
        made += draw.choice([b"", b"", b"", b": ping" + 2 * end, b"data:" + 2 * end, b"event: ping" + 2 * end])
        payload = json.dumps(
            chunk, ensure_ascii=draw.random() < 0.5, separators=draw.choice([(",", ":"), (", ", ": ")])
        )
        made += draw.choice([b"data: ", b"data:"]) + payload.encode() + 2 * end
    made += draw.choice([b"data: [DONE]", b"data: [done] ", b'data: "[DONE]"', b""]) + 2 * end
    cuts = sorted({0, len(made), *(draw.randrange(len(made)) for _ in range(draw.randrange(9)))})
    return [made[start:stop] for start, stop in pairwise(cuts)]


# ------------------------------------------------------------ what a client makes of it


def told(chunks: Iterable[Json]) -> Json:
    """The message, the choice's and the chunk's other fields, the reason and the usage of a stream."""
    made: Json = {"message": {}, "choice": {}, "chunk": {}, "logprobs": {}, "finish_reason": None, "usage": None}
    for chunk in chunks:
        _last(made["chunk"], {name: value for name, value in chunk.items() if name not in OURS})
        made["usage"] = chunk.get("usage") or made["usage"]
        for choice in chunk["choices"]:
            delta = dict(choice["delta"])
            delta.pop("role", None)
            if "reasoning" in delta:
                delta["reasoning_content"] = delta.pop("reasoning")
            _add(made["message"], {name: value for name, value in delta.items() if value not in (None, "", [], {})})
            _add(made["logprobs"], {k: v for k, v in (choice.get("logprobs") or {}).items() if v})
            made["finish_reason"] = choice["finish_reason"] or made["finish_reason"]
            known = {"index", "delta", "logprobs", "finish_reason"}
            _last(made["choice"], {name: value for name, value in choice.items() if name not in known})
    return made


def told_whole(completion: Json) -> Json:
    """The same of a whole answer."""
    (choice,) = completion["choices"]
    message = {name: value for name, value in choice["message"].items() if value not in (None, "", [], {})}
    message.pop("role")
    made: Json = {"message": message, "choice": {}, "chunk": {}, "usage": completion["usage"]}
    made["logprobs"] = {name: value for name, value in (choice["logprobs"] or {}).items() if value}
    made["finish_reason"] = choice["finish_reason"]
    known = {"index", "message", "logprobs", "finish_reason"}
    _last(made["choice"], {name: value for name, value in choice.items() if name not in known})
    _last(made["chunk"], {name: value for name, value in completion.items() if name not in OURS})
    return made


def expected(chunks: Iterable[Json], *, whole: bool) -> Json:
    """What a client of ours must be told of a model's stream. The differences from :func:`told` are the exceptions."""
    made = told(chunks)
    made["finish_reason"] = ENDS[made["finish_reason"]]
    calls = made["message"].get("tool_calls")
    if calls and made["finish_reason"] == "stop":
        made["finish_reason"] = "tool_calls"
    if calls and whole:
        made["message"]["tool_calls"] = [{k: v for k, v in call.items() if k != "index"} for call in calls]
    usage = made["usage"] or {"prompt_tokens": 0, "completion_tokens": 0}
    made["usage"] = {"total_tokens": usage["prompt_tokens"] + usage["completion_tokens"], **usage}
    return made


def _last(made: Json, more: Json) -> None:
    for name, value in more.items():
        if value not in (None, "", [], {}) or (value is not None and name not in made):
            made[name] = value


def _add(made: Json, more: Json) -> None:
    for name, value in more.items():
        old = made.get(name)
        if value is None:
            made.setdefault(name, None)
        elif isinstance(old, str) and isinstance(value, str) and name not in LABELS:
            made[name] = old + value
        elif isinstance(old, list) and isinstance(value, list):
            made[name] = _appended(old, value)
        elif isinstance(value, list):
            made[name] = _appended([], value)
        elif isinstance(old, dict) and isinstance(value, dict):
            made[name] = dict(old)
            _add(made[name], value)
        else:
            made[name] = value


def _appended(old: list[Any], more: list[Any]) -> list[Any]:
    made = list(old)
    for item in more:
        index = item.get("index") if isinstance(item, dict) else None
        place = next(
            (n for n, known in enumerate(old) if isinstance(known, dict) and known.get("index") == index), None
        )
        if not isinstance(index, int) or place is None:
            made.append(item)
        else:
            made[place] = dict(made[place])
            _add(made[place], item)
    return made
