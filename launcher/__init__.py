"""The launcher, ``python -m fleet``: runs the Procfile on one machine, in the foreground.

Starts the processes by name and imports none of them: ``fleet.settings`` and ``fleet.process`` only.
"""
