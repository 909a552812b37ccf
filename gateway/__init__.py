"""The gateway process: the HTTP edge, the choice of a worker, and one bounded queue per request.

Imports ``fleet`` and ``protos``, never ``worker``: the two meet only in ``protos/chat.proto``.
"""
