"""Alert rules and dashboards: as files, in promtool, and in a real Prometheus over a real fleet."""
