"""The APIs that clients speak: a folder for each, listed in ``listed.py``. Imports chats and errors."""
