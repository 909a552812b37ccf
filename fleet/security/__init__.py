"""How members know each other: certificates of the fleet's own authority, and a shared token.

``identity`` and ``tokens`` are what members and host use, ``diagnosis`` says why a link was refused.
``identities`` makes all of it. Imports nothing else of the fleet but ``logs`` and ``process``.
"""
