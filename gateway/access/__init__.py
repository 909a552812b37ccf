"""Who may ask, and how much: API keys and their limits. Imports chats and errors."""
