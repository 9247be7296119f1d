"""The application: a page, predictions for one sample or several, and how it fares."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import Annotated, Any

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from fastapi.security import HTTPBearer
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel, Field
from starlette.middleware.trustedhost import TrustedHostMiddleware

from tl_lightning import __version__, machine
from tl_lightning.printable import printable
from tl_lightning.serving.batching import DynamicBatcher, QueueFull
from tl_lightning.serving.inference import Answer, InferenceModel, InferenceRequest
from tl_lightning.serving.limits import BodyLimit, TokenGate
from tl_lightning.serving.measures import Measured, Measures

ROOM = 256  # samples that may wait
_PAGE = {
    "": ("page.html", "text/html"),
    "page.css": ("page.css", "text/css"),
    "page.js": ("page.js", "text/javascript"),
}
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
Explain = Annotated[bool, Query(description="also a heat map, or the words that weigh most")]


class Text(BaseModel):
    """A text, or a pair of texts."""

    text: str | tuple[str, str]


class Texts(BaseModel):
    """Several of them."""

    texts: list[str | tuple[str, str]] = Field(min_length=1, max_length=ROOM)


@dataclass
class Service:
    """What answers requests: samples are read in threads, as many as there are cores, and answered in batches."""

    inference: InferenceModel

    def __post_init__(self) -> None:
        self.measures = Measures(lambda: self.batches.waiting)
        self.batches = DynamicBatcher(self._answer, self.inference.predictor.at_once, ROOM)
        self._reading = CapacityLimiter(machine.cores() if self.inference.input.in_threads else 1)

    def _answer(self, asked: Sequence[InferenceRequest]) -> list[Answer]:
        self.measures.batches.observe(len(asked))
        return self.inference.answer(asked)

    async def predict(self, name: str, content: Any, explain: bool) -> Answer:
        """The answer for a sample, or why it cannot be read. Raises HTTPException: 503."""
        name = printable(name, lines=True)
        inputs = await to_thread.run_sync(self.inference.read, name, content, limiter=self._reading)
        if isinstance(inputs, Answer):
            return inputs
        try:
            answer = await asyncio.wrap_future(self.batches.submit(InferenceRequest(inputs, explain)))
        except QueueFull as error:
            raise HTTPException(503, "too many samples are waiting", {"Retry-After": "1"}) from error
        return answer.model_copy(update={"source": name})

    async def predict_one(self, name: str, content: Any, explain: bool) -> Answer:
        """The same; what cannot be read is an error, too. Raises HTTPException: 422 and 503."""
        answer = await self.predict(name, content, explain)
        if answer.error:
            raise HTTPException(422, answer.error)
        return answer

    async def predict_all(self, samples: Sequence[tuple[str, Any]], explain: bool) -> list[Answer]:
        """An answer for each (name, content). Raises HTTPException: 413 and 503."""
        if len(samples) > ROOM:
            raise HTTPException(413, f"at most {ROOM} samples at once")
        return list(await asyncio.gather(*(self.predict(name, content, explain) for name, content in samples)))


def _add_image_routes(router: APIRouter, service: Service) -> None:
    @router.post("/predict")
    async def predict(file: UploadFile, explain: Explain = False) -> Answer:
        """What the model says of an image file."""
        return await service.predict_one(file.filename or "image", await file.read(), explain)

    @router.post("/predict_batch")
    async def predict_batch(files: list[UploadFile], explain: Explain = False) -> list[Answer]:
        """What the model says of several; one that cannot be read has an error in its place."""
        return await service.predict_all([(f.filename or "image", await f.read()) for f in files], explain)


def _add_text_routes(router: APIRouter, service: Service) -> None:
    @router.post("/predict")
    async def predict(body: Text, explain: Explain = False) -> Answer:
        """What the model says of a text."""
        return await service.predict_one(_named(body.text), body.text, explain)

    @router.post("/predict_batch")
    async def predict_batch(body: Texts, explain: Explain = False) -> list[Answer]:
        """What the model says of several."""
        return await service.predict_all([(_named(text), text) for text in body.texts], explain)


def _named(text: str | tuple[str, str]) -> str:
    return text if isinstance(text, str) else " | ".join(text)


# By what a sample is: how it is sent.
_ROUTES: dict[str, Callable[[APIRouter, Service], None]] = {"images": _add_image_routes, "texts": _add_text_routes}


def application(
    inference: InferenceModel, *, token: str = "", max_mb: float = 10.0, hosts: Sequence[str] = ("*",)
) -> FastAPI:
    """An ASGI application; `token`: what every request but those for the page and for health must bring.

    `max_mb` of a request. `hosts`: names that it may be called by; a page from elsewhere cannot reach a server on
    this machine under a name of its own.
    """
    service = Service(inference)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.batches.start()
        yield
        service.batches.close()

    app: FastAPI = FastAPIOffline(title="tl_lightning", version=__version__, redoc_url=None, lifespan=lifespan)

    router = APIRouter(dependencies=[Depends(HTTPBearer(auto_error=False))])  # TokenGate asks; this tells of it
    model = inference.model
    _ROUTES[inference.input.noun](router, service)
    _add_figures(router, service)
    _add_about(router, {"noun": inference.input.noun, "outputs": list(model.task.outputs), "kind": model.task.noun,
                        "max_mb": max_mb})  # fmt: skip
    app.include_router(router)
    _add_page(app)
    app.add_exception_handler(Exception, _failed)
    app.add_exception_handler(RequestValidationError, _refused)
    app.add_middleware(BodyLimit, most=int(max_mb * 1e6))
    app.add_middleware(TokenGate, token=token)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    app.add_middleware(Measured, measures=service.measures)
    return app


async def _refused(request: Request, error: Exception) -> Response:
    """What is wrong with a request, without what was sent, which JSON need not be able to hold."""
    assert isinstance(error, RequestValidationError)
    detail = [{"loc": [printable(str(part)) for part in e["loc"]], "msg": printable(e["msg"]), "type": e["type"]}
              for e in error.errors()]  # fmt: skip
    return JSONResponse({"detail": detail}, 422)


async def _failed(request: Request, error: Exception) -> Response:
    return JSONResponse({"detail": "the server failed; its log says why"}, 500)


def _add_figures(router: APIRouter, service: Service) -> None:
    @router.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> PlainTextResponse:
        """Requests, seconds, sizes of batches and how many samples wait, for Prometheus."""
        return PlainTextResponse(service.measures.text(), media_type="text/plain; version=0.0.4")

    @router.get("/latency")
    async def latency() -> dict[str, float]:
        """Milliseconds that the last thousand predictions took."""
        return service.measures.latency()


def _add_about(router: APIRouter, facts: dict[str, Any]) -> None:
    @router.get("/about")
    async def about() -> dict[str, Any]:
        """What is sent, and what comes back."""
        return facts


def _add_page(app: FastAPI) -> None:
    @app.get("/health")
    async def health() -> dict[str, str]:
        """Whether the server is there."""
        return {"status": "ok"}

    for path, (name, kind) in _PAGE.items():
        content = (files("tl_lightning.serving") / name).read_bytes()
        headers = {"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}
        response = Response(content, media_type=kind, headers=headers)
        app.add_api_route(f"/{path}", _always(response), include_in_schema=False, response_model=None)


def _always(response: Response) -> Callable[[], Awaitable[Response]]:
    async def route() -> Response:
        return response

    return route
