"""The same service the obvious way, as a baseline: stock AutoGen runtimes, one event on the bus per token.

Host, one worker and a FastAPI gateway, each a file, with the stock OpenAI client and nothing of ours. It has no flow
control, no cancellation and no answer to a lost link; it shows what a token costs when each travels alone.
"""
