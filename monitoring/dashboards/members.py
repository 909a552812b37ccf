"""The rows of the fleet's dashboard about the host, the links to it, and the processes."""

from monitoring.grafana import WIDTH, Query, Row, a_minute, falling, graph, rate, rising, table
from monitoring.outcomes import MEMBERS

HOST = Row(
    "Host and links",
    (
        graph(
            "Members",
            "Connected members by kind, and whether the relay or gRPC carries their events.",
            Query("sum by (kind, by) (chatfleet_host_members)", "{{kind}} by {{by}}"),
            stacked=True,
        ),
        graph(
            "Events through the host",
            "Events that came from members.",
            Query(rate("chatfleet_host_events_total", "by"), "{{by}}"),
            unit="cps",
            stacked=True,
        ),
        graph(
            "Backlog",
            "Bytes that wait for members to read.",
            Query("sum(chatfleet_host_backlog_bytes)", "backlog"),
            unit="bytes",
        ),
        graph(
            "Dropped events",
            "Events that the host did not pass on, by reason.",
            Query(rate("chatfleet_host_events_dropped_total", "reason"), "{{reason}}"),
            unit="cps",
        ),
        graph(
            "Refused members and connections",
            "By reason. Connections that have not authenticated yet are pending.",
            Query(rate("chatfleet_host_refusals_total", "reason"), "{{reason}}"),
            Query("sum(chatfleet_host_pending_connections)", "pending"),
        ),
        graph(
            "Members that left, lost links",
            "A minute. silent: the member said nothing before its connection ended.",
            Query(a_minute("chatfleet_host_members_left_total", "kind, cause"), "{{kind}} {{cause}}"),
            Query(a_minute("chatfleet_link_losses_total", "job"), "{{job}} lost its link"),
            Query(
                a_minute("chatfleet_log_events_total", where='event="dropped a member that reads nothing"'),
                "dropped, as it read nothing",
            ),
        ),
    ),
)

PROCESSES = Row(
    "Processes",
    (
        graph(
            "Event loop lag, p99",
            "How late timers fire. Nothing may block a loop for more than 50 ms.",
            Query(
                """histogram_quantile(0.99, sum by (job, instance, le)
                (rate(chatfleet_event_loop_lag_seconds_bucket[$__rate_interval])))""",
                "{{job}} {{instance}}",
            ),
            unit="s",
            steps=rising(0.05, 0.1),
        ),
        graph(
            "CPU",
            "Cores that each process uses; it can use one.",
            Query(f"rate(process_cpu_seconds_total{{{MEMBERS}}}[$__rate_interval])", "{{job}} {{instance}}"),
            unit="percentunit",
        ),
        graph(
            "Memory",
            "Of each process.",
            Query(f"process_resident_memory_bytes{{{MEMBERS}}}", "{{job}} {{instance}}"),
            unit="bytes",
        ),
        graph(
            "Memory of its limit",
            "At 100 % the system kills the process. Not there where it has no limit.",
            Query("process_resident_memory_bytes / chatfleet_memory_limit_bytes", "{{job}} {{instance}}"),
            unit="percentunit",
            steps=rising(0.7, 0.85),
        ),
        graph(
            "Memory of requests' bodies",
            "By gateway; beyond GATEWAY_BODIES_MEMORY it answers 503.",
            Query("chatfleet_body_memory_bytes", "{{instance}}"),
            Query("min(chatfleet_body_memory_limit_bytes)", "limit"),
            unit="bytes",
        ),
        graph(
            "Open files",
            "Share of the file descriptors that a process may open.",
            Query(f"process_open_fds{{{MEMBERS}}} / process_max_fds{{{MEMBERS}}}", "{{job}} {{instance}}"),
            unit="percentunit",
            steps=rising(0.6, 0.8),
        ),
        graph(
            "Certificates",
            "Time until they end. They are renewed with 120 days left.",
            Query("chatfleet_certificate_expiry_timestamp_seconds - time()", "{{job}} {{instance}} {{certificate}}"),
            unit="s",
            steps=falling(21 * 86400, 3 * 86400),
        ),
        table(
            "Members",
            "Who runs which version, and where.",
            Query("max by (job, instance, member, version) (chatfleet_build_info)", ""),
            width=WIDTH - 8,
        ),
    ),
)
