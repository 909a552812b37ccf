"""What the tests of real processes share: a fleet on loopback, an exact HTTP client, a proxy that breaks connections.

Imports nothing of the product: everything under test is reached as its users reach it.
"""
