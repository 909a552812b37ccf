"""The launcher, ``python -m fleet``: the whole Procfile on one machine, in the foreground.

Starts the processes by name and never imports one of them; imports ``fleet.settings`` and libraries only.
"""
