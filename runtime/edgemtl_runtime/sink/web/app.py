"""The ASGI application of the page: access control, routing and limits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TypedDict
from urllib.parse import parse_qs

from .connections import Client, Connections
from .guard import Guard
from .reply import Reply, Route

Message = Mapping[str, object]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Scope(TypedDict):
    """What is read of a request's ASGI scope; ``server`` is the host and port that it came to."""

    client: Client
    server: tuple[str, int]
    method: str
    path: str
    query_string: bytes
    headers: list[tuple[bytes, bytes]]


class App:
    """Answers GET requests by ``routes`` (ASGI 3.0); ``watched`` are the routes whose responses wait for a result."""

    def __init__(
        self, routes: Mapping[str, Route], watched: Collection[str], guard: Guard, connections: Connections
    ) -> None:
        self.routes, self.watched = routes, frozenset(watched)
        self.guard, self.connections = guard, connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever its method; the client's closing cancels it."""
        client = scope["client"]
        self.connections.begin(client, asyncio.current_task())
        try:
            reply = await self.reply(scope)
            self.connections.begin_sending(client)
            await send({"type": "http.response.start", "status": reply.code, "headers": reply.all_headers()})
            for part in (reply.body, reply.tail):
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body"})  # waits until the client has received the parts
        except asyncio.CancelledError:
            pass
        finally:
            self.connections.end(client)

    async def reply(self, scope: Scope) -> Reply:
        """Return the response to a request."""
        path, client = scope["path"], scope["client"]
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        fields = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        query = {name: values[-1] for name, values in fields.items()}
        if rejection := self.guard.check(headers, query, scope["server"][1]):
            return rejection
        if scope["method"] != "GET":
            return Reply.line(405, "only GET is answered here", Allow="GET")
        if path in self.watched and not self.connections.watch(client):
            return Reply.line(503, "too many are watching; try again later", Retry_After="5")
        if (route := self.routes.get(path)) is None:
            return Reply.line(404, "there is no such page")
        try:
            return await route(query)
        except Exception as error:  # the run goes on, and the viewer reads what failed
            return Reply.line(500, f"{type(error).__name__}: {error}")
