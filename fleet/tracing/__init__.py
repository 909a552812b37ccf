"""Traces: their context, and the export of spans. Only ``export`` and its parts import OpenTelemetry's SDK.

Imports logs.
"""
