"""The dashboards: the fleet, its models and agents, one worker. Imports :mod:`monitoring.grafana`."""
