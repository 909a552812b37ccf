"""The command line, apart from the rest, which takes a second to import."""

import argparse
from pathlib import Path


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gateway", metavar="URL", action="append", default=[], help="a further gateway to ask")
    parser.add_argument("--key-file", metavar="FILE", type=Path, help="a file with an API key, for gateways with keys")
