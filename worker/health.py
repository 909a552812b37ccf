"""Health checks over HTTP for container engines and orchestrators."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from fleet.settings import HostPort


@asynccontextmanager
async def health_service(address: HostPort, not_ready: Callable[[], str | None]) -> AsyncIterator[None]:
    """Answer ``GET /healthz`` (200 while the loop runs) and ``GET /readyz`` (503 with a reason) within the ``with``.

    Raises ``OSError`` when it cannot listen on the address.
    """

    async def healthz(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(_: web.Request) -> web.Response:
        reason = not_ready()
        if reason is None:
            return web.json_response({"status": "ready"})
        return web.json_response({"status": "not ready", "reason": reason}, status=503)

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz)])
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0)
    await runner.setup()
    try:
        await web.TCPSite(runner, address.host, address.port).start()
        yield
    finally:
        await runner.cleanup()
