"""Runs a script in a world where ``requests`` takes its time between two chunks.

python -m tests.clients.slow_reader SECONDS SCRIPT ARGUMENTS…
"""

import runpy
import sys
import time
from collections.abc import Iterator
from typing import Any

import requests

PAUSE = float(sys.argv[1])
quickly = requests.Response.iter_content


def slowly(response: requests.Response, *arguments: Any, **options: Any) -> Iterator[Any]:
    for chunk in quickly(response, *arguments, **options):
        time.sleep(PAUSE)
        yield chunk


requests.Response.iter_content = slowly  # type: ignore[method-assign,assignment]
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
