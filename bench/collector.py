"""``python -m bench.collector PORT``: takes traces by OTLP over HTTP, for a fleet that is traced, and counts them."""

from aiohttp import web

from fleet.process import arguments


def app() -> web.Application:
    received = {"requests": 0, "bytes": 0}

    async def receive(request: web.Request) -> web.Response:
        received["requests"] += 1
        received["bytes"] += len(await request.read())
        return web.Response(content_type="application/x-protobuf")

    async def tell(_: web.Request) -> web.Response:
        return web.json_response(received)

    made = web.Application(client_max_size=64 * 1024 * 1024)
    made.add_routes([web.post("/v1/traces", receive), web.get("/", tell)])
    return made


if __name__ == "__main__":
    (port,) = arguments.read("bench.collector", "Take traces by OTLP over HTTP, and count them.", "PORT")
    web.run_app(app(), host="127.0.0.1", port=int(port), print=None, access_log=None)
