"""The benchmark: what a gateway adds to a streamed reply, in time, CPU and memory. See ``python -m bench --help``.

It starts processes and talks to them over HTTP, as any client does; only ``bus`` imports the fleet.
"""
