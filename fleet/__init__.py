"""What every member of the fleet shares: settings, logs, topics, the reconnecting runtime and the lane.

Imports ``protos`` and libraries only; AutoGen's private parts are touched here (``fleet.runtime``) and in ``host``.
"""
