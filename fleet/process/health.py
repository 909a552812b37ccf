"""Health checks and metrics over HTTP, for container engines, orchestrators and Prometheus."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Metrics = Callable[[str], Awaitable[tuple[bytes, str]]]
"""The metrics' text and its media type, for a request's ``Accept``."""


@asynccontextmanager
async def health_service(address: tuple[str, int], unready: Callable[[], str], metrics: Metrics) -> AsyncIterator[None]:
    """Answer within the ``with``: ``GET /healthz`` (200 while the loop runs), ``/readyz`` (503 with the reason that
    ``unready`` returns), and ``/metrics``.

    Raises ``OSError`` when it cannot listen on the address.
    """
    from aiohttp import web  # here, because a member without the service starts 0.1 s sooner without it

    async def healthz(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(_: web.Request) -> web.Response:
        if reason := unready():
            return web.json_response({"status": "unready", "reason": reason}, status=503)
        return web.json_response({"status": "ready"})

    async def show_metrics(request: web.Request) -> web.Response:
        text, media_type = await metrics(request.headers.get("accept", ""))
        return web.Response(body=text, headers={"content-type": media_type})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", show_metrics)])
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0)
    await runner.setup()
    try:
        await web.TCPSite(runner, *address).start()
        yield
    finally:
        await runner.cleanup()
