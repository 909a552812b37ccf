"""The fault matrix: a fleet of real processes, really broken, and what its clients see of it.

A scenario is one test. ``standing`` keeps fleets whole between them, ``crowd`` is a hundred clients at once, ``links``
breaks single connections. ``CHATFLEET_LONG=1`` runs the scenarios that need time for as long as an operator would.
"""
