"""What every member of the fleet shares: settings, logs, topics, the reconnecting runtime and the lane.

Imports ``protos`` and libraries only; AutoGen's private parts are touched here (``runtime``, ``link``, ``events``) and
in ``host``.
"""

import os

# gRPC's core writes lines of its own to standard error, and reads this when it is first imported. What matters of it
# reaches our logs as the reason of an error.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
