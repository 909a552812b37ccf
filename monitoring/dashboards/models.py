"""What is served: models and agents, as clients see them and as workers call them."""

from monitoring.grafana import Dashboard, Query, Row, Variable, falling, graph, quantiles, rate, rising, stat
from monitoring.outcomes import CLIENTS_AFFAIR

CHOSEN = 'model=~"$model"'
MODEL = Variable("model", "Model or agent", "label_values(chatfleet_requests_total, model)")

NOW = Row(
    "Now",
    (
        stat(
            "Requests", "Requests that ended.", Query(rate("chatfleet_requests_total", where=CHOSEN), ""), unit="reqps"
        ),
        stat(
            "Failed",
            "Share of requests that ended in an error of the fleet or a model.",
            Query(
                f"""{rate("chatfleet_requests_total", where=f'{CHOSEN}, code!~"{CLIENTS_AFFAIR}"')}
                / {rate("chatfleet_requests_total", where=CHOSEN)} or vector(0)""",
                "",
            ),
            unit="percentunit",
            steps=rising(0.01, 0.05),
        ),
        stat(
            "First token, p95",
            "One request in twenty waits longer.",
            quantiles("chatfleet_time_to_first_token_seconds", CHOSEN)[1],
            unit="s",
            steps=rising(5, 10),
        ),
        stat(
            "Running",
            "Requests at workers.",
            Query(f"sum(chatfleet_num_requests_running{{{CHOSEN}}})", ""),
        ),
        stat(
            "Waiting",
            "Requests in the queues.",
            Query(f"sum(chatfleet_num_requests_waiting{{{CHOSEN}}})", ""),
            steps=rising(1, 100),
        ),
        stat(
            "Fewest workers",
            "Ready workers that serve the one of them that fewest serve.",
            Query(f"min(max by (model) (chatfleet_model_workers{{{CHOSEN}}}))", ""),
            steps=falling(2, 1),
        ),
        stat(
            "Failing at",
            "Workers that get no request for one of them because it failed there.",
            Query(f"max(chatfleet_breakers_open{{{CHOSEN}}}) or vector(0)", ""),
            steps=rising(1, 2),
        ),
    ),
)

REQUESTS = Row(
    "Requests",
    (
        graph(
            "Requests by model",
            "Requests that ended, however they ended.",
            Query(rate("chatfleet_requests_total", "model", CHOSEN), "{{model}}"),
            unit="reqps",
            stacked=True,
        ),
        graph(
            "Failed requests",
            "Errors of the fleet or of the model, by model and code.",
            Query(
                rate("chatfleet_requests_total", "model, code", f'{CHOSEN}, code!~"{CLIENTS_AFFAIR}"'),
                "{{model}} {{code}}",
            ),
            unit="reqps",
            stacked=True,
        ),
        graph(
            "Finish reasons",
            "Of complete replies: stop, length (cut off by max_tokens), tool_calls, content_filter.",
            Query(rate("chatfleet_request_success_total", "finished_reason", CHOSEN), "{{finished_reason}}"),
            unit="reqps",
            stacked=True,
        ),
        graph(
            "Time to first token, p95",
            "From a request's arrival to its reply's first event, by model.",
            quantiles("chatfleet_time_to_first_token_seconds", CHOSEN, "model")[1],
            unit="s",
        ),
        graph(
            "Time per output token, p95",
            "Mean time between two tokens of a complete reply, by model.",
            quantiles("chatfleet_time_per_output_token_seconds", CHOSEN, "model")[1],
            unit="s",
        ),
        graph(
            "Duration, p95",
            "From a request's arrival to the end of its answer, by model.",
            quantiles("chatfleet_e2e_request_latency_seconds", CHOSEN, "model")[1],
            unit="s",
        ),
        graph(
            "Running and capacity",
            "Requests at workers, and how many of them the ready workers take at once.",
            Query(f"sum by (model) (chatfleet_num_requests_running{{{CHOSEN}}})", "{{model}}"),
            Query(f"max by (model) (chatfleet_model_capacity{{{CHOSEN}}})", "{{model}} capacity"),
        ),
        graph(
            "Waiting",
            "Requests in the queues.",
            Query(f"sum by (model) (chatfleet_num_requests_waiting{{{CHOSEN}}})", "{{model}}"),
            stacked=True,
        ),
        graph(
            "Time in the queue, p95",
            "Over all attempts of a request, by model.",
            quantiles("chatfleet_request_queue_time_seconds", CHOSEN, "model")[1],
            unit="s",
        ),
    ),
)

TOKENS = Row(
    "Tokens",
    (
        graph(
            "Prompts",
            "Tokens a second as models counted them, and how many of them came from a provider's cache.",
            Query(rate("chatfleet_prompt_tokens_total", "model", CHOSEN), "{{model}}"),
            Query(rate("chatfleet_prompt_tokens_cached_total", "model", CHOSEN), "{{model}} cached"),
            unit="cps",
        ),
        graph(
            "Replies",
            "Tokens a second as models counted them, when replies ended, and how many of them were reasoning.",
            Query(rate("chatfleet_generation_tokens_total", "model", CHOSEN), "{{model}}"),
            Query(rate("chatfleet_generation_tokens_reasoning_total", "model", CHOSEN), "{{model}} reasoning"),
            unit="cps",
        ),
        graph(
            "Deltas",
            "About one a token, counted while replies run.",
            Query(rate("chatfleet_reply_deltas_total", "model", CHOSEN), "{{model}}"),
            unit="cps",
            stacked=True,
        ),
    ),
)

CALLS = Row(
    "Calls of models",
    (
        graph(
            "Attempts",
            "What gateways tried on workers, by how it ended.",
            Query(rate("chatfleet_attempts_total", "model, code", CHOSEN), "{{model}} {{code}}"),
            unit="reqps",
            stacked=True,
        ),
        graph(
            "Calls",
            "What workers asked of models, for requests and for agents, by how it ended.",
            Query(rate("chatfleet_model_calls_total", "model, code", CHOSEN), "{{model}} {{code}}"),
            unit="reqps",
            stacked=True,
        ),
        graph(
            "Duration of calls, p95",
            "By model.",
            quantiles("chatfleet_model_call_duration_seconds", CHOSEN, "model")[1],
            unit="s",
        ),
        graph(
            "Calls now",
            "Open requests to models.",
            Query(f"sum by (model) (chatfleet_model_calls_active{{{CHOSEN}}})", "{{model}}"),
            stacked=True,
        ),
        graph(
            "Workers that serve it",
            "Ready workers, and those that get no request because it failed there.",
            Query(f"max by (model) (chatfleet_model_workers{{{CHOSEN}}})", "{{model}}"),
            Query(f"max by (model) (chatfleet_breakers_open{{{CHOSEN}}})", "{{model}} failing"),
        ),
        graph(
            "First event of a run, p95",
            "From a run's start on its worker: without the queue and the way there.",
            quantiles("chatfleet_run_time_to_first_token_seconds", CHOSEN, "model")[1],
            unit="s",
        ),
    ),
)

AGENTS = Row(
    "Agents and tools",
    (
        graph(
            "Agents' turns",
            "By agent and how they ended.",
            Query(rate("chatfleet_agent_turns_total", "agent, code"), "{{agent}} {{code}}"),
            unit="cps",
            stacked=True,
        ),
        graph(
            "Duration of turns, p95",
            "With the calls of models and tools in them.",
            quantiles("chatfleet_agent_turn_duration_seconds", by="agent")[1],
            unit="s",
        ),
        graph(
            "Calls of tools",
            "By tool and how they ended.",
            Query(rate("chatfleet_tool_calls_total", "tool, code"), "{{tool}} {{code}}"),
            unit="cps",
            stacked=True,
        ),
        graph(
            "Duration of tools, p95",
            "By tool.",
            quantiles("chatfleet_tool_call_duration_seconds", by="tool")[1],
            unit="s",
        ),
    ),
)

KEYS = Row(
    "API keys, with GATEWAY_METRICS_KEYS",
    (
        graph(
            "Requests by key",
            "By the key's name.",
            Query(rate("chatfleet_key_requests_total", "key"), "{{key}}"),
            unit="reqps",
            stacked=True,
        ),
        graph(
            "Refused or failed by key",
            "All that did not end in ok, by the key's name and the code.",
            Query(rate("chatfleet_key_requests_total", "key, code", 'code!="ok"'), "{{key}} {{code}}"),
            unit="reqps",
            stacked=True,
        ),
        graph(
            "Tokens by key",
            "Prompts and replies.",
            Query(rate("chatfleet_key_prompt_tokens_total", "key"), "{{key}} prompt"),
            Query(rate("chatfleet_key_generation_tokens_total", "key"), "{{key}} reply"),
            unit="cps",
            stacked=True,
        ),
    ),
)

MODELS = Dashboard(
    "chatfleet-models",
    "chatfleet: models and agents",
    "What is served: requests, tokens and times of each model and agent.",
    (NOW, REQUESTS, TOKENS, CALLS, AGENTS, KEYS),
    (MODEL,),
)
