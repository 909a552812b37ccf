"""Which worker gets a request, and when. Imports nothing but settings and errors."""
