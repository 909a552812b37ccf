"""The gateway process: the HTTP edge, the choice of a worker, a buffer per reply. Imports ``fleet`` and ``protos``."""
