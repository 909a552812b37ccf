"""How members and host authenticate: certificates and tokens, and why a link was refused.

The package ``identities`` makes the files. Imports ``fleet.logs`` and ``fleet.process``.
"""
