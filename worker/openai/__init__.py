"""The client of OpenAI-compatible servers. Imports wire and contract."""
