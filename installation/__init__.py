"""Sets up ``.venv``: what running needs, and beside it what testing needs, with progress that one can follow.

``make`` runs it with the system's Python, which has none of our packages: it imports the standard library only.
"""
