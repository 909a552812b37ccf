"""HTTP/1.1 to model servers. Imports contract."""
