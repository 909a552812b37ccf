"""The least that a gateway in Python must do: ``python -m bench.proxy PORT BACKEND``.

FastAPI receives a request, aiohttp sends it to the one backend, and the response is passed on as it arrives. The router
of vLLM's production-stack streams in this way, but also chooses a server and keeps statistics, so it costs more. This
file imports nothing of this project, because it runs in other environments too.
"""

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse


def build(backend: str) -> FastAPI:
    """The application; ``backend`` is a URL without a path."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None), connector=aiohttp.TCPConnector(limit=0)
        ) as session:
            app.state.session = session
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {}

    @app.post("/v1/chat/completions")
    async def complete(request: Request) -> StreamingResponse:
        body = await request.body()
        headers = {"content-type": "application/json", "authorization": request.headers.get("authorization", "")}
        url = f"{backend}/v1/chat/completions"
        answer = await request.app.state.session.post(url, data=body, headers=headers)

        async def passed_on() -> AsyncIterator[bytes]:
            async with answer:
                async for chunk in answer.content.iter_any():
                    yield chunk

        return StreamingResponse(passed_on(), answer.status, media_type=answer.content_type)

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.proxy", description="The least that a gateway must do.")
    parser.add_argument("port", type=int)
    parser.add_argument("backend")
    given = parser.parse_args()
    uvicorn.run(build(given.backend), host="127.0.0.1", port=given.port, access_log=False, log_level="warning")
