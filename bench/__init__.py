"""The benchmark: what a gateway adds to a streamed reply, in time, CPU and memory. See ``python -m bench --help``.

Imports nothing of the fleet: it starts processes and talks to them as anybody would. Each file is one noun.
"""
