"""The bus: events between members through the host, by the relay or by gRPC.

Imports security, settings and process. :mod:`fleet.bus.relay` says why there is a relay beside gRPC.
"""
