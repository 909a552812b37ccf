"""What a worker serves. Imports openai and contract."""
