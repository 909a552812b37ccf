"""``python -m bench.collector PORT``: takes traces by OTLP over HTTP, for a fleet that is traced."""

from aiohttp import web

from fleet.process import arguments


async def receive(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(content_type="application/x-protobuf")


def app() -> web.Application:
    made = web.Application(client_max_size=64 * 1024 * 1024)
    made.add_routes([web.post("/v1/traces", receive)])
    return made


if __name__ == "__main__":
    (port,) = arguments.read("bench.collector", "Take traces by OTLP over HTTP.", "PORT")
    web.run_app(app(), host="127.0.0.1", port=int(port), print=None, access_log=None)
