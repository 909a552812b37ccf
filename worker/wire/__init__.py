"""HTTP/1.1 to models' servers. Imports nothing else of the worker."""
