"""An MCP server for tests: over its standard input and output, or over HTTP at the port that it is given."""

import asyncio
import os
import sys

from mcp.server.fastmcp import FastMCP

server = FastMCP("test", log_level="ERROR")


@server.tool()
def add(a: int, b: int) -> int:
    """Adds."""
    return a + b


@server.tool()
async def sleep(seconds: float) -> str:
    """Sleeps."""
    await asyncio.sleep(seconds)
    return "slept"


@server.tool()
def pid() -> int:
    """Whose process it is."""
    return os.getpid()


@server.tool()
def fail() -> str:
    """Fails."""
    raise ValueError("as it should")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.settings.port = int(sys.argv[1])
        server.run("streamable-http")
    server.run()
