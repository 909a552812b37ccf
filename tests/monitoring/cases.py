"""For each alert: series with which it fires, what it says then, and series with which it stays quiet.

Values are in promtool's notation, one every 15 s: ``0+2x20`` grows by two, twenty times.
"""

from dataclasses import dataclass, field

DAY = 86400

Series = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Case:
    fires: Series
    at: str
    """From then on at the latest it fires."""
    quiet: Series
    labels: dict[str, str] = field(default_factory=dict)
    """Those of the alert, without its name and severity."""
    summary: str


GATEWAY = {"job": "chatfleet-gateway", "instance": "g1"}
WORKER = {"job": "chatfleet-worker", "instance": "w1"}
G, W = ('job="chatfleet-gateway", instance="g1"', 'job="chatfleet-worker", instance="w1"')
LAG = f"chatfleet_event_loop_lag_seconds_bucket{{{W}, le=%s}}"
FIRST = f'chatfleet_time_to_first_token_seconds_bucket{{{G}, model="m", le=%s}}'


def requests(code: str, values: str, model: str = "m") -> Series:
    return {f'chatfleet_requests_total{{{G}, face="openai", model="{model}", code="{code}"}}': values}


CASES = {
    "ChatfleetNoGateway": Case(
        fires={f"up{{{G}}}": "1x3 0x20"},
        at="3m",
        quiet={f"up{{{G}}}": "0x60", 'up{job="chatfleet-gateway", instance="g2"}': "1x60"},
        summary="No gateway answers",
    ),
    "ChatfleetGatewayDown": Case(
        fires={f"up{{{G}}}": "1x3 0x20", 'up{job="chatfleet-gateway", instance="g2"}': "1x20"},
        at="4m",
        quiet={f"up{{{G}}}": "1x3 0x6 1x20"},
        labels=GATEWAY,
        summary="Gateway g1 does not answer",
    ),
    "ChatfleetHostDown": Case(
        fires={f"up{{{G}}}": "1x20"},  # its target is gone
        at="2m",
        quiet={'up{job="chatfleet-host", instance="h"}': "1x3 0x2 1x60"},
        summary="The host does not answer",
    ),
    "ChatfleetWorkerDown": Case(
        fires={f"up{{{W}}}": "1x3 0x20"},
        at="4m",
        quiet={f"up{{{W}}}": "1x3 0x6 1x20", f"up{{{G}}}": "0x30"},
        labels=WORKER,
        summary="Worker w1 does not answer",
    ),
    "ChatfleetRestarts": Case(
        fires={f"process_start_time_seconds{{{W}}}": "1x4 2x4 3x4 4x20"},
        at="5m",
        quiet={
            f"process_start_time_seconds{{{W}}}": "1x4 2x4 3x20",
            'process_start_time_seconds{job="other", instance="o"}': "1x4 2x4 3x4 4x20",
        },
        labels=WORKER,
        summary="chatfleet-worker w1 has restarted 3 times in 30 minutes",
    ),
    "ChatfleetEventLoopBlocked": Case(
        fires={LAG % '"0.05"': "0+140x60", LAG % '"0.5"': "0+150x60", LAG % '"+Inf"': "0+150x60"},
        at="11m",
        quiet={LAG % '"0.05"': "0+149.9x60", LAG % '"0.5"': "0+150x60", LAG % '"+Inf"': "0+150x60"},
        labels=WORKER,
        summary="chatfleet-worker w1 stands still for 432.5ms at a time",
    ),
    "ChatfleetMemoryNearLimit": Case(
        fires={f"process_resident_memory_bytes{{{W}}}": "900x40", f"chatfleet_memory_limit_bytes{{{W}}}": "1000x40"},
        at="6m",
        quiet={f"process_resident_memory_bytes{{{W}}}": "900x40"},  # no limit
        labels=WORKER,
        summary="chatfleet-worker w1 uses 90% of its memory",
    ),
    "ChatfleetFilesNearLimit": Case(
        fires={f"process_open_fds{{{W}}}": "900x40", f"process_max_fds{{{W}}}": "1024x40"},
        at="6m",
        quiet={f"process_open_fds{{{W}}}": "800x40", f"process_max_fds{{{W}}}": "1024x40"},
        labels=WORKER,
        summary="chatfleet-worker w1 has opened 87.89% of its files",
    ),
    "ChatfleetDefect": Case(
        fires={f'chatfleet_log_events_total{{{W}, level="error", event="chat failed"}}': "0x4 1x20"},
        at="2m",
        quiet={
            f'chatfleet_log_events_total{{{W}, level="warning", event="chat failed"}}': "0x4 9x20",
            f'chatfleet_log_events_total{{{G}, level="error", event="keys not reloaded"}}': "0x4 1x20",
        },
        labels=WORKER | {"event": "chat failed"},
        summary='chatfleet-worker w1 has logged the error "chat failed"',
    ),
    "ChatfleetFileNotReloaded": Case(
        fires={f'chatfleet_file_unusable{{{G}, file="keys"}}': "0x4 1x20"},
        at="3m",
        quiet={f'chatfleet_file_unusable{{{G}, file="keys"}}': "0x4 1x3 0x20"},
        labels=GATEWAY | {"file": "keys"},
        summary="chatfleet-gateway g1 cannot use the changed keys file",
    ),
    "ChatfleetCertificateNotRenewed": Case(
        fires={f'chatfleet_certificate_expiry_timestamp_seconds{{{W}, certificate="own"}}': f"{20 * DAY + 900}x80"},
        at="15m",
        quiet={f'chatfleet_certificate_expiry_timestamp_seconds{{{W}, certificate="own"}}': f"{22 * DAY}x80"},
        labels=WORKER | {"certificate": "own"},
        summary="A certificate of chatfleet-worker w1 ends in 20d 0h 0m 0s",
    ),
    "ChatfleetCertificateEnds": Case(
        fires={f'chatfleet_certificate_expiry_timestamp_seconds{{{W}, certificate="own"}}': f"{2 * DAY + 900}x80"},
        at="15m",
        quiet={f'chatfleet_certificate_expiry_timestamp_seconds{{{W}, certificate="own"}}': f"{4 * DAY}x80"},
        labels=WORKER | {"certificate": "own"},
        summary="A certificate of chatfleet-worker w1 ends in 2d 0h 0m 0s",
    ),
    "ChatfleetLinkLost": Case(
        fires={f"chatfleet_linked{{{W}}}": "1x4 0x20"},
        at="3m",
        quiet={f"chatfleet_linked{{{W}}}": "1x4 0x3 1x20"},
        labels=WORKER,
        summary="chatfleet-worker w1 has no link to the host",
    ),
    "ChatfleetRelayNotUsed": Case(
        fires={f"chatfleet_linked{{{W}}}": "1x40", f"chatfleet_relay_open{{{W}}}": "0x40"},
        at="6m",
        quiet={f"chatfleet_linked{{{W}}}": "0x40", f"chatfleet_relay_open{{{W}}}": "0x40"},
        labels=WORKER,
        summary="chatfleet-worker w1 does not reach the relay",
    ),
    "ChatfleetWorkerSilent": Case(
        fires={
            'chatfleet_host_members_left_total{job="chatfleet-host", kind="worker", cause="silent"}': "0x4 1x20",
            f'chatfleet_workers{{{G}, state="silent"}}': "0x20",
        },
        at="3m",
        quiet={
            'chatfleet_host_members_left_total{job="chatfleet-host", kind="worker", cause="closed"}': "0x4 1x20",
            f'chatfleet_workers{{{G}, state="silent"}}': "0x20",
        },
        summary="A worker is silent",
    ),
    "ChatfleetMembersRefused": Case(
        fires={'chatfleet_host_refusals_total{job="chatfleet-host", reason="token"}': "0+1x20"},
        at="4m",
        quiet={'chatfleet_host_refusals_total{job="chatfleet-host", reason="timeout"}': "0+1x20"},
        summary="The host has refused members 16 times in 10 minutes",
    ),
    "ChatfleetLanesResending": Case(
        fires={
            f"chatfleet_lane_batches_total{{{W}}}": "0+1000x60",
            f"chatfleet_lane_resent_batches_total{{{W}}}": "0+50x60",
        },
        at="11m",
        quiet={
            f"chatfleet_lane_batches_total{{{W}}}": "0+1000x60",
            f"chatfleet_lane_resent_batches_total{{{W}}}": "0+5x60",
        },
        labels={"instance": "w1"},
        summary="Worker w1 sends 5% of its batches again",
    ),
    "ChatfleetEventsLost": Case(
        fires={f'chatfleet_log_events_total{{{G}, level="warning", event="lane broken"}}': "0x4 1x20"},
        at="2m",
        quiet={'chatfleet_host_events_dropped_total{job="chatfleet-host", reason="role"}': "0+1x20"},
        summary="Events between members were dropped",
    ),
    "ChatfleetNoWorkerReady": Case(
        fires={f'chatfleet_workers{{{G}, state="ready"}}': "2x4 0x20"},
        at="2m",
        quiet={
            f'chatfleet_workers{{{G}, state="ready"}}': "0x20",
            'chatfleet_workers{job="chatfleet-gateway", instance="g2", state="ready"}': "1x20",
        },
        summary="No worker is ready",
    ),
    "ChatfleetModelFailing": Case(
        fires=requests("model_unreachable", "0+1x40") | requests("ok", "0+5x4 20x36") | requests("ok", "0+1x40", "n"),
        at="7m",
        quiet=requests("model_unreachable", "0+5x40") | requests("ok", "0+1x40"),
        labels={"model": "m"},
        summary="m fails for everybody",
    ),
    "ChatfleetErrorsHigh": Case(
        fires=requests("worker_lost", "0+1x60") | requests("ok", "0+9x60") | requests("ok", "0+90x60", "n"),
        at="11m",
        quiet=requests("client_gone", "0+5x60") | requests("invalid_field", "0+5x60") | requests("ok", "0+1x60"),
        labels={"model": "m"},
        summary="10% of the requests for m fail",
    ),
    "ChatfleetFirstTokenSlow": Case(
        fires={
            FIRST % '"1"': "0+90x60",
            FIRST % '"10"': "0+90x60",
            FIRST % '"30"': "0+100x60",
            FIRST % '"+Inf"': "0+100x60",
        },
        at="11m",
        quiet={
            FIRST % '"1"': "0+97x60",
            FIRST % '"10"': "0+97x60",
            FIRST % '"30"': "0+100x60",
            FIRST % '"+Inf"': "0+100x60",
        },
        labels={"model": "m"},
        summary="m takes 20s to its first token",
    ),
    "ChatfleetRequestsRefused": Case(
        fires=requests("queue_full", "0x4 0+3x40"),
        at="8m",
        quiet=requests("rate_limit_exceeded", "0+9x60"),
        labels={"code": "queue_full"},
        summary="Requests are refused: queue_full",
    ),
    "ChatfleetQueueLong": Case(
        fires={f"chatfleet_queue_oldest_seconds{{{G}}}": "12x20"},
        at="3m",
        quiet={f"chatfleet_queue_oldest_seconds{{{G}}}": "12x6 0x20"},
        labels={"instance": "g1"},
        summary="Requests at g1 wait 12s for a worker",
    ),
    "ChatfleetCapacityNearlyUsed": Case(
        fires={
            f'chatfleet_model_active{{{G}, model="m"}}': "9x60",
            f'chatfleet_model_capacity{{{G}, model="m"}}': "10x60",
            f"chatfleet_load_ratio{{{G}}}": "0.2x60",
        },
        at="12m",
        quiet={f"chatfleet_load_ratio{{{G}}}": "0.95x30 0.7x30"},
        labels={"model": "m"},
        summary="90% of the capacity of m is used",
    ),
    "ChatfleetRetriesMany": Case(
        fires={f'chatfleet_retries_total{{{G}, code="worker_lost"}}': "0+2x80"} | requests("ok", "0+10x80"),
        at="17m",
        quiet={f'chatfleet_retries_total{{{G}, code="worker_lost"}}': "0+1x80"} | requests("ok", "0+20x80"),
        summary="20% of the requests need another attempt",
    ),
    "ChatfleetClientsStalled": Case(
        fires=requests("client_stalled", "0+1x20"),
        at="4m",
        quiet=requests("client_stalled", "0x4 5x20") | requests("client_gone", "0+9x20"),
        summary="16 clients stopped reading within 15 minutes",
    ),
}
