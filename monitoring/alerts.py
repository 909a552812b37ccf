"""Every alert, by what it is about. ``docs/runbook.md`` has a section for each name.

What must last is longer than what the fleet mends by itself: a restart takes 10 s, an upgrade of the host 30 s.
"""

from monitoring.outcomes import CLIENTS_AFFAIR, MEMBERS, OF_MODELS, REFUSED
from monitoring.rules import Alert

NOT_RELOADED = "keys not reloaded|not reloaded"
"""Has an alert of its own, which lasts until the file is mended."""

PROCESSES = (
    Alert(
        name="ChatfleetNoGateway",
        expr='absent(up{job="chatfleet-gateway"} == 1)',
        lasts="1m",
        severity="critical",
        summary="No gateway answers",
        description="No client can reach the fleet.",
        threshold="A restarted gateway listens within 10 s.",
    ),
    Alert(
        name="ChatfleetGatewayDown",
        expr='up{job="chatfleet-gateway"} == 0',
        lasts="2m",
        severity="warning",
        summary="Gateway {{ $labels.instance }} does not answer",
        description="Its streams have ended. New requests go to other gateways, if there are any.",
        threshold="A restart takes 10 s, a replaced gateway drains for up to a minute.",
    ),
    Alert(
        name="ChatfleetHostDown",
        expr='absent(up{job="chatfleet-host"} == 1)',
        lasts="1m",
        severity="critical",
        summary="The host does not answer",
        description="Streams pause and end after FLEET_LINK_TIMEOUT (30 s). New requests wait, then get 503.",
        threshold="Twice as long as an upgrade takes the host away.",
    ),
    Alert(
        name="ChatfleetWorkerDown",
        expr='up{job="chatfleet-worker"} == 0',
        lasts="2m",
        severity="warning",
        summary="Worker {{ $labels.instance }} does not answer",
        description="Its streams have ended with worker_lost. Other workers take new requests within their capacity.",
        threshold="A restart takes 10 s, a replaced worker drains for up to a minute.",
    ),
    Alert(
        name="ChatfleetRestarts",
        expr=f"changes(process_start_time_seconds{{{MEMBERS}}}[30m]) > 2",
        lasts="0s",
        severity="warning",
        summary="{{ $labels.job }} {{ $labels.instance }} has restarted {{ $value }} times in 30 minutes",
        description="Each restart ends its streams. Its log's last lines say why it ended.",
        threshold="An upgrade and a change of settings restart it once each.",
    ),
    Alert(
        name="ChatfleetEventLoopBlocked",
        expr="""
histogram_quantile(0.99, sum by (job, instance, le) (rate(chatfleet_event_loop_lag_seconds_bucket[5m]))) > 0.1
""",
        lasts="5m",
        severity="warning",
        summary="{{ $labels.job }} {{ $labels.instance }} stands still for {{ $value | humanizeDuration }} at a time",
        description="Everything in it waits: tokens, probes, statuses. The CPU is short, or code of an agent blocks.",
        threshold="Twice the 50 ms that nothing may block a loop for.",
    ),
    Alert(
        name="ChatfleetMemoryNearLimit",
        expr="process_resident_memory_bytes / chatfleet_memory_limit_bytes > 0.85",
        lasts="5m",
        severity="warning",
        summary="{{ $labels.job }} {{ $labels.instance }} uses {{ $value | humanizePercentage }} of its memory",
        description="At its limit the system kills it, and its streams end.",
        threshold="The members' own bounds stay below 80 % with the limits of deploy/.",
    ),
    Alert(
        name="ChatfleetFilesNearLimit",
        expr=f"process_open_fds{{{MEMBERS}}} / process_max_fds{{{MEMBERS}}} > 0.8",
        lasts="5m",
        severity="warning",
        summary="{{ $labels.job }} {{ $labels.instance }} has opened {{ $value | humanizePercentage }} of its files",
        description="At the limit it accepts no connection. Each client and each request to a model is one.",
        threshold="Leaves time to raise the limit (ulimit -n) or to add members.",
    ),
    Alert(
        name="ChatfleetDefect",
        expr=f"""
sum by (job, instance, event) (increase(chatfleet_log_events_total{{level="error", event!~"{NOT_RELOADED}"}}[15m])) > 0
""",
        lasts="0s",
        severity="warning",
        summary='{{ $labels.job }} {{ $labels.instance }} has logged the error "{{ $labels.event }}"',
        description="Most errors are defects of the fleet: report the line. The rest of the fleet is not affected.",
        threshold="A fleet that is whole logs none.",
    ),
    Alert(
        name="ChatfleetFileNotReloaded",
        expr="chatfleet_file_unusable == 1",
        lasts="1m",
        severity="warning",
        summary="{{ $labels.job }} {{ $labels.instance }} cannot use the changed {{ $labels.file }} file",
        description="It goes on with the content before. After a restart it would not start.",
        threshold="Somebody who edits a file in place saves it again within a minute.",
    ),
    Alert(
        name="ChatfleetCertificateNotRenewed",
        expr="chatfleet_certificate_expiry_timestamp_seconds - time() < 21 * 86400",
        lasts="10m",
        severity="warning",
        summary="A certificate of {{ $labels.job }} {{ $labels.instance }} ends in {{ $value | humanizeDuration }}",
        description="It should have been renewed 120 days before its end. Members cannot join with one that has ended.",
        threshold="Renewal has failed for three months; three weeks are left to mend it by day.",
    ),
    Alert(
        name="ChatfleetCertificateEnds",
        expr="chatfleet_certificate_expiry_timestamp_seconds - time() < 3 * 86400",
        lasts="10m",
        severity="critical",
        summary="A certificate of {{ $labels.job }} {{ $labels.instance }} ends in {{ $value | humanizeDuration }}",
        description="When it ends, no member can join: the next restart or lost link takes the fleet down.",
        threshold="Covers a weekend.",
    ),
)

LINKS = (
    Alert(
        name="ChatfleetLinkLost",
        expr="chatfleet_linked == 0",
        lasts="1m",
        severity="critical",
        summary="{{ $labels.job }} {{ $labels.instance }} has no link to the host",
        description="Its streams have ended, and it serves nothing. It tries again by itself.",
        threshold="Twice FLEET_LINK_TIMEOUT.",
    ),
    Alert(
        name="ChatfleetRelayNotUsed",
        expr="chatfleet_linked == 1 and chatfleet_relay_open == 0",
        lasts="5m",
        severity="warning",
        summary="{{ $labels.job }} {{ $labels.instance }} does not reach the relay",
        description="Its events pass by gRPC, which costs five times the CPU.",
        threshold="It tries again every 5 s.",
    ),
    Alert(
        name="ChatfleetWorkerSilent",
        expr="""
max(chatfleet_workers{state="silent"}) > 0
  or sum(increase(chatfleet_host_members_left_total{kind="worker", cause="silent"}[5m])) > 0
""",
        lasts="15s",
        severity="warning",
        summary="A worker is silent",
        description="It hangs, or its machine or network is lost. Its streams end after FLEET_LINK_TIMEOUT (30 s).",
        threshold="A worker sends one status a second and is silent after two are missed.",
    ),
    Alert(
        name="ChatfleetMembersRefused",
        expr='sum(increase(chatfleet_host_refusals_total{reason=~"token|role|tls"}[10m])) > 5',
        lasts="0s",
        severity="warning",
        summary="The host has refused members {{ $value | humanize }} times in 10 minutes",
        description="Somebody tries to join with a token or a certificate that the host does not accept.",
        threshold="A member whose token was just replaced is refused once or twice.",
    ),
    Alert(
        name="ChatfleetLanesResending",
        expr="""
sum by (instance) (rate(chatfleet_lane_resent_batches_total[5m]))
  / sum by (instance) (rate(chatfleet_lane_batches_total[5m])) > 0.01
""",
        lasts="5m",
        severity="warning",
        summary="Worker {{ $labels.instance }} sends {{ $value | humanizePercentage }} of its batches again",
        description="Events are lost or late on their way. Clients see pauses, and no error unless the lane breaks.",
        threshold="Without loss nothing is sent twice; a lost link costs a few batches once.",
    ),
    Alert(
        name="ChatfleetEventsLost",
        expr="""
sum(increase(chatfleet_host_events_dropped_total{reason="no_room"}[10m])) > 0
  or sum(increase(chatfleet_log_events_total{event=~"dropped a member that reads nothing|lane broken"}[10m])) > 0
""",
        lasts="0s",
        severity="warning",
        summary="Events between members were dropped",
        description="A member reads more slowly than others send, or hangs. Streams may have ended in lane_broken.",
        threshold="Backpressure keeps a healthy fleet far below the host's bounds.",
    ),
)

REQUESTS = (
    Alert(
        name="ChatfleetNoWorkerReady",
        expr='max(chatfleet_workers{state="ready"}) == 0',
        lasts="30s",
        severity="critical",
        summary="No worker is ready",
        description="New requests wait up to GATEWAY_QUEUE_TIMEOUT (30 s), then get 503.",
        threshold="From then on requests are refused.",
    ),
    Alert(
        name="ChatfleetModelFailing",
        expr=f"""
sum by (model) (increase(chatfleet_requests_total{{code=~"{OF_MODELS}"}}[2m])) >= 3
  unless sum by (model) (increase(chatfleet_requests_total{{code="ok"}}[2m])) > 0
""",
        lasts="1m",
        severity="critical",
        summary="{{ $labels.model }} fails for everybody",
        description="No request for it has succeeded, whichever worker took it.",
        threshold="Three failures without a success between them are no chance.",
    ),
    Alert(
        name="ChatfleetErrorsHigh",
        expr=f"""
sum by (model) (rate(chatfleet_requests_total{{code!~"{CLIENTS_AFFAIR}"}}[5m]))
  / sum by (model) (rate(chatfleet_requests_total[5m])) > 0.05
""",
        lasts="5m",
        severity="warning",
        summary="{{ $value | humanizePercentage }} of the requests for {{ $labels.model }} fail",
        description="They end in errors of the fleet or of the model. What clients do wrong is not counted.",
        threshold="Retries hide single failures: a healthy fleet stays far below 1 %.",
    ),
    Alert(
        name="ChatfleetFirstTokenSlow",
        expr="""
histogram_quantile(0.95, sum by (model, le) (rate(chatfleet_time_to_first_token_seconds_bucket[5m]))) > 10
""",
        lasts="5m",
        severity="warning",
        summary="{{ $labels.model }} takes {{ $value | humanizeDuration }} to its first token",
        description="One request in twenty waits so long. The queue, the worker and the model each have a share.",
        threshold="GATEWAY_HOLD_STATUS: after it, errors can no longer be HTTP statuses, and people leave.",
    ),
    Alert(
        name="ChatfleetRequestsRefused",
        expr=f'sum by (code) (increase(chatfleet_requests_total{{code=~"{REFUSED}"}}[5m])) > 5',
        lasts="2m",
        severity="critical",
        summary="Requests are refused: {{ $labels.code }}",
        description="Clients get 429 or 503 because no worker has room for them in time.",
        threshold="A burst that ends by itself is over sooner.",
    ),
    Alert(
        name="ChatfleetQueueLong",
        expr="max by (instance) (chatfleet_queue_oldest_seconds) > 10",
        lasts="2m",
        severity="warning",
        summary="Requests at {{ $labels.instance }} wait {{ $value | humanizeDuration }} for a worker",
        description="Clients wait that much longer for their first token, and are refused after GATEWAY_QUEUE_TIMEOUT.",
        threshold="A third of GATEWAY_QUEUE_TIMEOUT (30 s).",
    ),
    Alert(
        name="ChatfleetCapacityNearlyUsed",
        expr="""
max(chatfleet_load_ratio) > 0.85
  or max by (model) (chatfleet_model_active / chatfleet_model_capacity) > 0.85
""",
        lasts="10m",
        severity="warning",
        summary="{{ $value | humanizePercentage }} of the capacity{{ with $labels.model }} of {{ . }}{{ end }} is used",
        description="At 100 % requests wait. Add workers, or raise concurrency where the model allows it.",
        threshold="Autoscaling aims at 70 % and has had time to act.",
    ),
    Alert(
        name="ChatfleetRetriesMany",
        expr="sum(rate(chatfleet_retries_total[5m])) / sum(rate(chatfleet_requests_total[5m])) > 0.1",
        lasts="10m",
        severity="warning",
        summary="{{ $value | humanizePercentage }} of the requests need another attempt",
        description="Users see only a delay so far. A worker or its model fails.",
        threshold="A worker that dies costs each of its waiting requests one retry, once.",
    ),
    Alert(
        name="ChatfleetClientsStalled",
        expr='sum(increase(chatfleet_requests_total{code="client_stalled"}[15m])) > 10',
        lasts="0s",
        severity="warning",
        summary="{{ $value | humanize }} clients stopped reading within 15 minutes",
        description="They read nothing for GATEWAY_STALL_TIMEOUT (30 s), so their connections were dropped.",
        threshold="A phone that loses its network stalls now and then; ten have a common cause, such as a proxy.",
    ),
)

ALERTS = (*PROCESSES, *LINKS, *REQUESTS)
