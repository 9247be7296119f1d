"""How many requests there were, and how long they took."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_KEPT = 1000  # requests, of which percentiles are taken
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Measures:
    """Figures of one server, for people (`latency`) and for Prometheus (`text`)."""

    def __init__(self, waiting: Callable[[], float]) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "tl_requests", "Requests by path and status", ("path", "status"), registry=self._registry
        )
        self._seconds = Histogram("tl_request_seconds", "Seconds of a request", ("path",), registry=self._registry)
        self.batches = Histogram("tl_batch_size", "Samples answered at once", buckets=_SIZES, registry=self._registry)
        Gauge("tl_waiting", "Samples that wait", registry=self._registry).set_function(waiting)
        self._last: deque[float] = deque(maxlen=_KEPT)

    def add(self, path: str, status: int, seconds: float) -> None:
        """A request has been answered."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)
        if path.startswith("/predict") and status == 200:
            self._last.append(seconds)

    def latency(self) -> dict[str, float]:
        """Milliseconds of the last predictions: half of them took less than p50."""
        last = np.array(self._last) * 1000
        return {f"p{p}": round(float(np.percentile(last, p)), 1) for p in (50, 95, 99)} if len(last) else {}

    def text(self) -> bytes:
        """As Prometheus reads it."""
        return generate_latest(self._registry)


class Measured:
    """ASGI middleware that tells `measures` of every request, under the path of its route."""

    def __init__(self, app: ASGIApp, measures: Measures) -> None:
        self.app, self.measures = app, measures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            route = getattr(scope.get("route"), "path", "other")  # paths that nobody serves are as many as one likes
            self.measures.add(route, status, time.perf_counter() - began)
