"""``python -m fleet.security DIRECTORY``: makes and renews certificates and tokens."""

import contextlib
import ipaddress
import re
import sys
from pathlib import Path

from fleet.process import arguments
from identities.authority import CERT_DAYS, RENEW_DAYS, Authority, Change

_LABEL = "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"(\*\.)?({_LABEL}\.)*(?=[A-Za-z]){_LABEL}")


def host_name(text: str) -> str:
    """An IP address or a DNS name as certificates have them. Ends the process with one line for anything else."""
    name = text.strip().removeprefix("[").removesuffix("]")
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(name))
    if not _NAME.fullmatch(name):
        print(f"--host: {text!r} is neither a name nor an address of a host, without a port", file=sys.stderr)
        raise SystemExit(2)
    return name


def main() -> None:
    """Update the identities in a directory. Exits with 1 and one line if that fails."""
    parser = arguments.parser(
        "fleet.security",
        "Make the fleet's certificate authority, a certificate for each of host, gateway and worker, and "
        "a token for gateways and one for workers. "
        f"A certificate that is valid for another {RENEW_DAYS} of its {CERT_DAYS} days stays. Running members notice "
        "changes.",
    )
    parser.add_argument("directory", type=Path, help="each role's files go to DIRECTORY/host, /gateway and /worker")
    parser.add_argument("--host", action="append", default=[], metavar="NAME", help="a further name of the host")
    for change in Change:
        flag = "--" + change.name.lower().replace("_", "-")
        parser.add_argument(flag, dest="changes", action="append_const", const=change, default=[], help=change.value)
    given = parser.parse_args()
    names = [host_name(name) for names in given.host for name in names.split(",") if name.strip()]
    try:
        reports = Authority(given.directory).update(*given.changes, host_names=names)
    except (OSError, ValueError) as error:
        print(f"{given.directory}: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    for report in reports:
        print(f"{report.path}: {report.words}")
    if not reports:
        print(f"{given.directory}: everything is there and valid")


if __name__ == "__main__":
    main()
