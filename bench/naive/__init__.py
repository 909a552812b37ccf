"""The simplest way to build the same service, as a baseline: stock AutoGen runtimes, one event per token.

A host, one worker and a FastAPI gateway, each a file, with the stock OpenAI client and nothing of this project. It has
no flow control, no cancellation and no handling of a lost link. It shows what a token costs as a message of its own.
"""
