"""Makes and renews the certificates and tokens by which the fleet's members know each other. Imports ``fleet``."""
