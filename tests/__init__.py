"""The tests: units, integration with real processes on loopback, faults, and real clients."""
