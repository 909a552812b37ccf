"""What watches the fleet: Prometheus' alert rules and Grafana's dashboards, as ``python -m monitoring`` writes them.

Imports only the catalogue of metrics. An expression with a metric that is not in the catalogue is an error.
"""
