"""What both alerts and dashboards ask for: how requests end, and which processes are the fleet's."""

CLIENTS_AFFAIR = (
    "ok|cancelled|client_.*|body_.*|incomplete_body|invalid_.*|model_not_allowed|not_found|unknown_model|unsupported_.*"
    "|rate_limit_exceeded|model_rejected_request"
)
"""Codes that are no failure of the fleet or of a model."""

REFUSED = "queue_full|queue_timeout|overloaded|no_worker"
"""Codes of requests for which there was no room."""

OF_MODELS = "model_.*|agent_failed|first_token_timeout|token_timeout"
"""Codes of requests whose model failed, or did not answer."""

MEMBERS = 'job=~"chatfleet-(gateway|worker|host)"'
"""The jobs, as deploy/monitoring/prometheus.yml and the Kubernetes component name them."""
