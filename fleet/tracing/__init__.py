"""Traces: their context, and the export of spans. Only ``export`` imports OpenTelemetry's SDK. Imports logs."""
