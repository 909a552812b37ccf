"""The command line, apart from the rest, which takes a second to import."""

import argparse
from pathlib import Path


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"{text!r} is no URL, such as http://127.0.0.1:8501")
    return text


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--gateway", metavar="URL", type=_url, action="append", default=[], help="a further gateway to ask"
    )
    parser.add_argument("--key-file", metavar="FILE", type=Path, help="a file with an API key, for gateways with keys")
