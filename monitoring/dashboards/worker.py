"""One worker: what it runs, how its events leave, and how the process is."""

from monitoring.grafana import (
    WIDTH,
    Dashboard,
    Query,
    Row,
    Variable,
    a_minute,
    falling,
    graph,
    quantiles,
    rate,
    rising,
    stat,
    table,
)

CHOSEN = 'job="chatfleet-worker", instance=~"$worker"'
WORKER = Variable("worker", "Worker", 'label_values(up{job="chatfleet-worker"}, instance)', several=False)

NOW = Row(
    "Now",
    (
        stat("Ready", "1 if it takes requests.", Query(f"max(chatfleet_ready{{{CHOSEN}}})", ""), steps=falling(1, 1)),
        stat(
            "Link",
            "1 while it has a link to the host.",
            Query(f"max(chatfleet_linked{{{CHOSEN}}})", ""),
            steps=falling(1, 1),
        ),
        stat(
            "Relay",
            "1 while its events pass by the relay; by gRPC they cost five times the CPU.",
            Query(f"max(chatfleet_relay_open{{{CHOSEN}}})", ""),
            steps=falling(1, 1),
        ),
        stat(
            "Draining",
            "1 once it was told to stop.",
            Query(f"max(chatfleet_draining{{{CHOSEN}}})", ""),
            steps=rising(1, 2),
        ),
        stat("Runs", "Runs now.", Query(f"sum(chatfleet_runs_active{{{CHOSEN}}})", "")),
        stat("Capacity", "Runs that it takes at once.", Query(f"sum(chatfleet_run_capacity{{{CHOSEN}}})", "")),
        stat(
            "Up for",
            "Time since it started.",
            Query(f"time() - max(process_start_time_seconds{{{CHOSEN}}})", ""),
            unit="s",
        ),
        stat(
            "Certificate",
            "Time until the first of its certificates ends.",
            Query(f"min(chatfleet_certificate_expiry_timestamp_seconds{{{CHOSEN}}}) - time()", ""),
            unit="s",
            steps=falling(21 * 86400, 3 * 86400),
        ),
        table(
            "Who it is",
            "Its id, as logs and /fleet name it, and its version.",
            Query(f"max by (instance, member, version) (chatfleet_build_info{{{CHOSEN}}})", ""),
            width=WIDTH,
            height=4,
        ),
    ),
)

RUNS = Row(
    "Runs",
    (
        graph(
            "Runs and capacity",
            "Runs now by model, and how many it takes in all.",
            Query(f"chatfleet_runs_active{{{CHOSEN}}}", "{{model}}"),
            Query(f"chatfleet_run_capacity{{{CHOSEN}}}", "capacity"),
            Query(f"chatfleet_run_concurrency{{{CHOSEN}}}", "{{model}} concurrency"),
        ),
        graph(
            "Runs by code",
            "How runs ended.",
            Query(rate("chatfleet_runs_total", "model, code", CHOSEN), "{{model}} {{code}}"),
            unit="reqps",
            stacked=True,
        ),
        graph(
            "Refused",
            "Requests that it did not run, by the reason: full, draining, not served.",
            Query(rate("chatfleet_runs_refused_total", "code", CHOSEN), "{{code}}"),
            unit="reqps",
            stacked=True,
        ),
        graph(
            "First event of a run",
            "From its start.",
            *quantiles("chatfleet_run_time_to_first_token_seconds", CHOSEN),
            unit="s",
        ),
        graph("Duration of runs", "From start to end.", *quantiles("chatfleet_run_duration_seconds", CHOSEN), unit="s"),
        graph(
            "Calls of models",
            "By how they ended, and those open now.",
            Query(rate("chatfleet_model_calls_total", "model, code", CHOSEN), "{{model}} {{code}}"),
            Query(f"sum by (model) (chatfleet_model_calls_active{{{CHOSEN}}})", "{{model}} now"),
        ),
        graph(
            "Duration of models' calls, p95",
            "By model.",
            quantiles("chatfleet_model_call_duration_seconds", CHOSEN, "model")[1],
            unit="s",
        ),
        graph(
            "Agents' turns",
            "By agent and how they ended.",
            Query(rate("chatfleet_agent_turns_total", "agent, code", CHOSEN), "{{agent}} {{code}}"),
            unit="cps",
            stacked=True,
        ),
        graph(
            "Calls of tools",
            "By tool and how they ended.",
            Query(rate("chatfleet_tool_calls_total", "tool, code", CHOSEN), "{{tool}} {{code}}"),
            unit="cps",
            stacked=True,
        ),
    ),
)

LANES = Row(
    "Lanes",
    (
        graph(
            "Batches",
            "Batches of events to gateways, and those sent again.",
            Query(rate("chatfleet_lane_batches_total", where=CHOSEN), "sent"),
            Query(rate("chatfleet_lane_resent_batches_total", where=CHOSEN), "resent"),
            unit="cps",
        ),
        graph(
            "Unacknowledged batches",
            "Of all its lanes; each holds nine at most.",
            Query(f"sum(chatfleet_lane_unacknowledged_batches{{{CHOSEN}}})", "batches"),
            Query(f"sum(chatfleet_lanes{{{CHOSEN}}})", "lanes"),
        ),
        graph(
            "Held replies",
            "Bytes that are not acknowledged or wait for credit.",
            Query(f"sum(chatfleet_lane_held_bytes{{{CHOSEN}}})", "held"),
            unit="bytes",
        ),
        graph(
            "Replies that wait for their clients",
            "They have used their credit, because their clients do not read.",
            Query(f"sum(chatfleet_lane_blocked_replies{{{CHOSEN}}})", "blocked"),
        ),
        graph(
            "Lost links",
            "A minute.",
            Query(a_minute("chatfleet_link_losses_total", where=CHOSEN), "lost"),
        ),
        graph(
            "Log",
            "Warnings and errors a minute, by event.",
            Query(
                a_minute("chatfleet_log_events_total", "level, event", f'{CHOSEN}, level!="info"'),
                "{{level}} {{event}}",
            ),
        ),
    ),
)

PROCESS = Row(
    "Process",
    (
        graph(
            "Event loop lag",
            "How late timers fire. Nothing may block the loop for more than 50 ms.",
            *quantiles("chatfleet_event_loop_lag_seconds", CHOSEN),
            unit="s",
            steps=rising(0.05, 0.1),
        ),
        graph(
            "CPU",
            "Cores that it uses; it can use one, and tools in threads share it.",
            Query(f"rate(process_cpu_seconds_total{{{CHOSEN}}}[$__rate_interval])", "cores"),
            unit="percentunit",
        ),
        graph(
            "Memory",
            "And its limit, if it has one.",
            Query(f"process_resident_memory_bytes{{{CHOSEN}}}", "used"),
            Query(f"chatfleet_memory_limit_bytes{{{CHOSEN}}}", "limit"),
            unit="bytes",
        ),
        graph(
            "Open files",
            "File descriptors, and how many it may open.",
            Query(f"process_open_fds{{{CHOSEN}}}", "open"),
            Query(f"process_max_fds{{{CHOSEN}}}", "limit"),
        ),
        graph(
            "Garbage collections",
            "By generation.",
            Query(rate("python_gc_collections_total", "generation", CHOSEN), "generation {{generation}}"),
            unit="cps",
        ),
    ),
)

ONE_WORKER = Dashboard(
    "chatfleet-worker",
    "chatfleet: one worker",
    "What a worker runs, how its events leave, and how its process is.",
    (NOW, RUNS, LANES, PROCESS),
    (WORKER,),
)
