"""The host process: AutoGen's ``GrpcWorkerAgentRuntimeHost``, hardened.

Imports ``fleet`` and ``protos``; touches AutoGen's private parts in ``host.servicer`` and ``host.server`` only.
"""
