"""The host process: AutoGen's ``GrpcWorkerAgentRuntimeHost``, hardened.

Imports ``fleet`` and ``protos``. Only ``host.servicer`` and ``host.server`` use AutoGen's private parts.
"""
