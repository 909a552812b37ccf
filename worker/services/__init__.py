"""What a worker serves. Imports openai, wire and contract."""
