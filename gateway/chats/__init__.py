"""Running chats: attempts at workers, and replies as they arrive. Imports routing and errors."""
