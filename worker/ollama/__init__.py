"""The client of Ollama's own API: requests and answers in OpenAI's terms are translated. Imports openai and below."""
