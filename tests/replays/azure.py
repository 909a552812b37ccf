"""Azure OpenAI: filter results in the first chunk and in every choice, a path and a key of its own."""

from tests.replays.replay import Json, Replay, Want, events, refusal

ENTRY = "azure-gpt-4o"
PATH = "/openai/deployments/deployed/chat/completions?api-version=2024-10-21"
SAFE = {name: {"filtered": False, "severity": "safe"} for name in ("hate", "self_harm", "sexual", "violence")}
HATE = {**SAFE, "hate": {"filtered": True, "severity": "high"}}
PROMPT = [{"prompt_index": 0, "content_filter_results": {**SAFE, "jailbreak": {"filtered": False, "detected": False}}}]
FIRST = {"choices": [], "created": 0, "id": "", "model": "", "object": "", "prompt_filter_results": PROMPT}


def said(results: Json, *, finish: str | None = None, **delta: object) -> Json:
    return {
        "id": "chatcmpl-Azure1",
        "object": "chat.completion.chunk",
        "created": 1764000000,
        "model": "gpt-4o-2024-11-20",
        "system_fingerprint": "fp_ee1d74bde0",
        "choices": [
            {
                "content_filter_results": results,
                "delta": delta,
                "finish_reason": finish,
                "index": 0,
                "logprobs": None,
            }
        ],
        "usage": None,
    }


COUNTED = {
    **said({}),
    "choices": [],
    "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
}
FILTERED = {
    "error": {
        "message": "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
        "type": None,
        "param": "prompt",
        "code": "content_filter",
        "status": 400,
        "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": HATE},
    }
}

REPLAYS = [
    Replay(
        "azure",
        ENTRY,
        events(
            FIRST,
            said({}, role="assistant", content="", refusal=None),
            said(SAFE, content="Hello"),
            said(SAFE, content="!"),
            said({}, finish="stop"),
            COUNTED,
        ),
        Want(
            "Hello!",
            usage={"prompt_tokens": 9, "total_tokens": 12},
            fields={
                "prompt_filter_results": PROMPT,
                "content_filter_results": SAFE,
                "system_fingerprint": "fp_ee1d74bde0",
            },
        ),
        path=PATH,
        headers={"api-key": "key-azure"},
    ),
    Replay(
        "azure-cuts-an-answer",
        ENTRY,
        events(FIRST, said(SAFE, role="assistant", content="I hate"), said(HATE, finish="content_filter")),
        Want("I hate", finish="content_filter", fields={"content_filter_results": HATE}),
        path=PATH,
    ),
    Replay(
        "azure-filters-a-prompt",
        ENTRY,
        refusal(400, FILTERED),
        Want(
            status=400,
            error={"code": "content_filter", "param": "prompt", "message": "content management policy"},
        ),
        path=PATH,
    ),
    Replay(
        "azure-has-no-such-deployment",
        ENTRY,
        refusal(404, {"error": {"code": "DeploymentNotFound", "message": "The API deployment does not exist."}}),
        Want(status=404, error={"code": "DeploymentNotFound", "message": "does not exist"}),
        path=PATH,
    ),
]
