"""``python -m fleet.security``: see :mod:`identities`."""

from identities.__main__ import main

if __name__ == "__main__":
    main()
