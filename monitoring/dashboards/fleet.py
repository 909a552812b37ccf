"""The fleet at a glance: is it well, and if not, where to look."""

from monitoring.dashboards.members import HOST, PROCESSES
from monitoring.grafana import Dashboard, Query, Row, a_minute, falling, graph, quantiles, rate, rising, stat
from monitoring.outcomes import CLIENTS_AFFAIR, REFUSED

NOW = Row(
    "Now",
    (
        stat(
            "Alerts",
            "Alerts that fire. Each has a section in docs/runbook.md.",
            Query('count(ALERTS{alertstate="firing", alertname=~"Chatfleet.*"}) or vector(0)', ""),
            steps=rising(1, 1),
        ),
        stat(
            "Host", "1 if the host answers.", Query('sum(up{job="chatfleet-host"})', ""), steps=falling(1, 1), width=2
        ),
        stat(
            "Gateways",
            "Gateways that answer.",
            Query('sum(up{job="chatfleet-gateway"})', ""),
            steps=falling(1, 1),
            width=2,
        ),
        stat(
            "Workers ready",
            "As the gateway that knows most workers sees it.",
            Query('max(chatfleet_workers{state="ready"})', ""),
            steps=falling(1, 1),
            width=2,
        ),
        stat("Requests", "Requests that ended.", Query(rate("chatfleet_requests_total"), ""), unit="reqps"),
        stat(
            "Failed",
            "Share of requests that ended in an error of the fleet or a model.",
            Query(
                f"""{rate("chatfleet_requests_total", where=f'code!~"{CLIENTS_AFFAIR}"')}
                / {rate("chatfleet_requests_total")} or vector(0)""",
                "",
            ),
            unit="percentunit",
            steps=rising(0.01, 0.05),
        ),
        stat(
            "First token, p95",
            "One request in twenty waits longer.",
            quantiles("chatfleet_time_to_first_token_seconds")[1],
            unit="s",
            steps=rising(5, 10),
        ),
        stat(
            "Waiting",
            "Requests in the gateways' queues.",
            Query("sum(chatfleet_num_requests_waiting)", ""),
            steps=rising(1, 100),
        ),
        stat(
            "Load",
            "(runs + waiting requests) / capacity of the ready workers.",
            Query("max(chatfleet_load_ratio)", ""),
            unit="percentunit",
            steps=rising(0.7, 0.85),
        ),
    ),
)

REQUESTS = Row(
    "Requests",
    (
        graph(
            "Requests by code",
            "How requests ended: ok, the client's leaving, or an error's code.",
            Query(rate("chatfleet_requests_total", "code"), "{{code}}"),
            unit="reqps",
            stacked=True,
        ),
        graph(
            "Failed requests",
            "Errors of the fleet or of a model, by code. What clients do wrong is not counted.",
            Query(rate("chatfleet_requests_total", "code", f'code!~"{CLIENTS_AFFAIR}"'), "{{code}}"),
            unit="reqps",
            stacked=True,
        ),
        graph(
            "Clients that left",
            "client_gone closed its connection, client_stalled read nothing for GATEWAY_STALL_TIMEOUT.",
            Query(rate("chatfleet_requests_total", "code", 'code=~"client_.*"'), "{{code}}"),
            unit="reqps",
        ),
        graph(
            "Time to first token",
            "From a request's arrival to its reply's first event, with the queue and retries.",
            *quantiles("chatfleet_time_to_first_token_seconds"),
            unit="s",
        ),
        graph(
            "Time per output token",
            "Mean time between two tokens of a complete reply.",
            *quantiles("chatfleet_time_per_output_token_seconds"),
            unit="s",
        ),
        graph(
            "Duration",
            "From a request's arrival to the end of its answer.",
            *quantiles("chatfleet_e2e_request_latency_seconds"),
            unit="s",
        ),
        graph(
            "Tokens",
            "Prompts and replies as models counted them, when replies ended; deltas while they run.",
            Query(rate("chatfleet_prompt_tokens_total"), "prompt"),
            Query(rate("chatfleet_generation_tokens_total"), "reply"),
            Query(rate("chatfleet_reply_deltas_total"), "deltas"),
            unit="cps",
        ),
        graph(
            "Requests by API",
            "The face that clients use.",
            Query(rate("chatfleet_requests_total", "face"), "{{face}}"),
            unit="reqps",
            stacked=True,
        ),
        graph(
            "Client connections",
            "Open connections by gateway.",
            Query("chatfleet_http_connections", "{{instance}}"),
        ),
    ),
)

CAPACITY = Row(
    "Queue and capacity",
    (
        graph(
            "In flight and capacity",
            "Requests at workers, and how many the ready workers take, as the gateway that knows most sees it.",
            Query("sum(chatfleet_num_requests_running)", "in flight"),
            Query("max(sum by (instance) (chatfleet_worker_capacity))", "capacity"),
        ),
        graph(
            "Load",
            "(runs + waiting requests) / capacity. Autoscaling keeps it at 70 %.",
            Query("max(chatfleet_load_ratio)", "load"),
            unit="percentunit",
            steps=rising(0.7, 0.85),
        ),
        graph(
            "Queue",
            "Requests that wait for a worker, by gateway, and the limit from which the next one gets 429.",
            Query("sum by (instance) (chatfleet_num_requests_waiting)", "{{instance}}"),
            Query("min(chatfleet_queue_limit)", "limit"),
        ),
        graph(
            "Time in the queue",
            "Of requests that a worker ran, over all their attempts.",
            *quantiles("chatfleet_request_queue_time_seconds"),
            unit="s",
        ),
        graph(
            "Oldest in the queue",
            "How long the oldest request has waited, by gateway. GATEWAY_QUEUE_TIMEOUT ends it.",
            Query("chatfleet_queue_oldest_seconds", "{{instance}}"),
            unit="s",
            steps=rising(10, 30),
        ),
        graph(
            "Refused requests",
            "No room, no worker, or no memory for the body.",
            Query(rate("chatfleet_requests_total", "code", f'code=~"{REFUSED}"'), "{{code}}"),
            unit="reqps",
            stacked=True,
        ),
    ),
)

WORKERS = Row(
    "Workers",
    (
        graph(
            "Workers by state",
            "As the gateways see them. A silent worker has missed two statuses.",
            Query("max by (state) (chatfleet_workers)", "{{state}}"),
            stacked=True,
        ),
        graph(
            "Runs by worker",
            "Runs of all gateways.",
            Query("max by (worker) (chatfleet_worker_active)", "{{worker}}"),
            stacked=True,
        ),
        graph(
            "Time since the last status",
            "A worker sends one a second.",
            Query("max by (worker) (chatfleet_worker_status_age_seconds)", "{{worker}}"),
            unit="s",
            steps=rising(2.5, 10),
        ),
    ),
)

TROUBLE = Row(
    "What goes wrong",
    (
        graph(
            "Retries",
            "Attempts that followed another, by how that one ended. Users see only a delay.",
            Query(rate("chatfleet_retries_total", "code"), "{{code}}"),
            unit="reqps",
            stacked=True,
        ),
        graph(
            "Failing models",
            "Workers that get no request for a model because it failed there, by model.",
            Query("max by (model) (chatfleet_breakers_open)", "{{model}}"),
        ),
        graph(
            "Lanes",
            "Batches that were sent again, and lanes that lost events for good.",
            Query(rate("chatfleet_lane_resent_batches_total"), "resent"),
            Query(rate("chatfleet_log_events_total", where='event="lane broken"'), "broken"),
            unit="cps",
        ),
        graph(
            "Warnings in the log",
            "Lines a minute by event; docs/operations.md explains each.",
            Query(a_minute("chatfleet_log_events_total", "job, event", 'level="warning"'), "{{job}} {{event}}"),
            width=12,
        ),
        graph(
            "Errors in the log",
            "Lines a minute by event. Most are defects: report them.",
            Query(a_minute("chatfleet_log_events_total", "job, event", 'level="error"'), "{{job}} {{event}}"),
            width=12,
        ),
    ),
)

FLEET = Dashboard(
    "chatfleet-fleet",
    "chatfleet: fleet",
    "Requests, workers, host and processes of one fleet.",
    (NOW, REQUESTS, CAPACITY, WORKERS, TROUBLE, HOST, PROCESSES),
)
