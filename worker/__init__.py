"""The worker process: hosts ``MyAgent``, runs the model and streams its reply back on a lane.

Imports ``fleet`` and ``protos``, never ``gateway``; touches AutoGen's private parts in ``worker.openai.client`` only.
"""
