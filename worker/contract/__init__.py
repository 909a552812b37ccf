"""The fleet's requests and failures in AutoGen's terms. Imports nothing else of the worker."""
