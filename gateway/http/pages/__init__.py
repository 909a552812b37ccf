"""What a browser sees: the first page, and the documentation, in which streams can be watched."""

from html import escape
from pathlib import Path
from string import Template

from starlette.requests import Request
from starlette.responses import HTMLResponse

from fleet.process.version import VERSION

HERE = Path(__file__).parent
DOCS = (HERE / "docs.html").read_text(encoding="utf-8")
INDEX = Template((HERE / "index.html").read_text(encoding="utf-8"))
KEY = '\n  -H "Authorization: Bearer KEY" \\'


def asks_for_html(request: Request) -> bool:
    """Whether a browser asks: programs accept anything, or JSON."""
    return "text/html" in request.headers.get("accept", "")


def index(unready: str, needs_key: bool) -> HTMLResponse:
    state = f"not ready: {unready}" if unready else "ready"
    shown = INDEX.substitute(version=VERSION, state=escape(state), key=KEY if needs_key else "")
    return HTMLResponse(shown, headers={"vary": "accept"})


def docs() -> HTMLResponse:
    return HTMLResponse(DOCS)
