"""How many files and connections a process may have open."""

import contextlib
import resource

ENOUGH = 1_000_000


def allow_all() -> None:
    """As many as the system lets this process have: the usual default, 1,024, is less than the streams it serves."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if most == resource.RLIM_INFINITY else most
    with contextlib.suppress(OSError, ValueError):  # where the system says one thing and does another
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
