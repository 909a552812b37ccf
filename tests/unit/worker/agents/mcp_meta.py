"""An MCP server for tests, whose tool tells what a call of it carries."""

import json
from typing import Any

from mcp.server.fastmcp import Context, FastMCP

server = FastMCP("meta", log_level="ERROR")


@server.tool()
def meta(context: Context[Any, Any, Any]) -> str:
    """The call's ``_meta``."""
    found = context.request_context.meta
    return json.dumps(found.model_dump(exclude_none=True) if found is not None else {})


if __name__ == "__main__":
    server.run()
