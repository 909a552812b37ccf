"""The bus: events between members through the host, over the relay or gRPC. Imports security, settings and process."""
