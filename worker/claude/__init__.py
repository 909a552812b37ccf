"""The client of the Messages API: requests and answers in OpenAI's terms are translated. Imports openai and below."""
