"""Starlette with sse-starlette under uvicorn (uvloop, httptools), a queue a subscriber: the usual way in asyncio."""

import asyncio
import sys

import uvicorn
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from bench.peers import DATA

subscribers = set()


async def health(_request):
    return PlainTextResponse("ok")


async def stream(_request):
    queue = asyncio.Queue()

    async def events():
        subscribers.add(queue)
        try:
            while True:
                number, data = await queue.get()
                yield ServerSentEvent(data, event="text", id=str(number))
        finally:
            subscribers.discard(queue)

    return EventSourceResponse(events(), ping=15)


async def send(count, burst, every_ms):
    for number in range(count):
        for one in range(burst):
            for queue in subscribers:
                queue.put_nowait((number * burst + one, DATA))
        await asyncio.sleep(every_ms / 1000)


async def publish(request):
    asked = [int(request.query_params[name]) for name in ("count", "burst", "every_ms")]
    return PlainTextResponse("ok", background=BackgroundTask(send, *asked))


app = Starlette(
    routes=[Route("/health", health), Route("/stream", stream), Route("/publish", publish, methods=["POST"])]
)

if __name__ == "__main__":
    uvicorn.run(
        app, port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False, log_level="warning", backlog=4096
    )
