"""What a request may cost: bytes, time, and who may ask."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import MutableMapping
from typing import Any

from fastapi import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

_SECONDS = 30.0  # between two parts of a body
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


def check_token(given: str | None, token: str) -> None:
    """Raise HTTPException (401) unless the token was given; an empty one asks for none."""
    if token and not secrets.compare_digest((given or "").encode(), token.encode()):
        raise HTTPException(401, "a token is needed: Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})
