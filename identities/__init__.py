"""``python -m fleet.security``: makes the fleet's certificate authority, certificates and tokens.

Imports ``fleet.security`` and libraries only.
"""
