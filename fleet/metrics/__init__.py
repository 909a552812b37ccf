"""Metrics that every member has, and the catalogue of all. May import anything in ``fleet``; only prometheus-client."""
