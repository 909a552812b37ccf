"""The APIs that clients speak: a folder for each. Imports chats and errors."""
