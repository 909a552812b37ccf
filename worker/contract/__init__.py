"""The fleet's requests, events and failures in AutoGen's terms. Imports nothing else of the worker."""
