"""What a request may cost: bytes and time; and who may ask."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import MutableMapping
from typing import Any

from fastapi import HTTPException
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_SECONDS = 30.0  # between two parts of a body
_OPEN = frozenset(("/", "/page.css", "/page.js", "/health", "/docs", "/openapi.json"))
_FILES = "/static-offline-docs/"  # of the interface
_DRAINED = 8  # times the limit, that are read and thrown away so that the client hears why


class BodyLimit:
    """ASGI middleware: bodies of up to `most` bytes, no part of which keeps us waiting."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app, self.most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on. Raises HTTPException, from where the body is read: 413 and 408."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        got, whole = 0, False

        async def counted() -> MutableMapping[str, Any]:
            nonlocal got, whole
            if whole:  # what comes now is that the client has gone
                return await receive()
            message = await _soon(receive)
            got += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if got > self.most:
                while not whole and got < self.most * _DRAINED:
                    more = await _soon(receive)
                    got, whole = got + len(more.get("body", b"")), not more.get("more_body", False)
                raise HTTPException(413, f"more than {self.most / 1e6:g} MB")
            return message

        await self.app(scope, counted, send)


async def _soon(receive: Receive) -> MutableMapping[str, Any]:
    try:
        return await asyncio.wait_for(receive(), _SECONDS)
    except TimeoutError as error:
        raise HTTPException(408, f"nothing came for {_SECONDS:g} seconds") from error


class TokenGate:
    """ASGI middleware: whoever brings no token has nothing but the page, health and the interface; nothing is read.

    An empty token asks for none.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app, self.token = app, token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 401."""
        if scope["type"] != "http" or not self.token or scope["path"] in _OPEN or scope["path"].startswith(_FILES):
            await self.app(scope, receive, send)
            return
        kind, _, given = dict(scope["headers"]).get(b"authorization", b"").partition(b" ")
        if kind.lower() == b"bearer" and secrets.compare_digest(given.strip(), self.token):
            await self.app(scope, receive, send)
            return
        said = {"detail": "a token is needed: Authorization: Bearer TOKEN"}
        await JSONResponse(said, 401, {"WWW-Authenticate": "Bearer"})(scope, receive, send)
