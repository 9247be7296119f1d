"""A model on a port, until it is stopped."""

from __future__ import annotations

import importlib.util
import ipaddress
import logging
import os
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from tl_lightning import checks
from tl_lightning.errors import UserError
from tl_lightning.evaluation.neighbours import Neighbours
from tl_lightning.features.engine import CHOICES
from tl_lightning.runs.model import Model

if TYPE_CHECKING:
    from fastapi import FastAPI

log = logging.getLogger(__name__)

TOKEN = "TL_TOKEN"  # of the environment, where others cannot read it in the list of processes
_MOST = 128  # connections
_SECONDS = 10  # for what is being answered when the server is stopped
_HERE = ("127.0.0.1", "localhost")


@dataclass(frozen=True)
class ServeOptions:
    """What is asked of a server.

    `host` that it is called by; `token` that requests must bring; `max_mb` of a request, `max_megapixels` of an image;
    `unknown`: whether answers say how far a sample is from the training samples (None: where they are at hand).
    """

    host: str = ""
    token: str = ""
    max_mb: float = 10.0
    max_megapixels: float = 50.0
    unknown: bool | None = None
    engine: str = "auto"

    def __post_init__(self) -> None:
        checks.number("max_mb", self.max_mb, 0.001, 10_000)
        checks.number("max_megapixels", self.max_megapixels, 0.01)
        checks.one_of("engine", self.engine, CHOICES)
        checks.one_of("unknown", self.unknown, (None, True, False))

    @property
    def hosts(self) -> tuple[str, ...]:
        """Names that requests may call it by; those of this machine alone where no other reaches it.

        Else a page from elsewhere could reach it under a name of its own (DNS rebinding).
        """
        return (*_HERE, self.host, f"[{self.host}]") if self.host and is_loopback(self.host) else ("*",)


def served(model: Model, neighbours: Callable[[], Neighbours], options: ServeOptions) -> FastAPI:
    """The application of a model; `neighbours` makes those of its training samples.

    Raises UserError where the extra `serve` is missing, and where `unknown` is wanted and cannot be told.
    """
    if importlib.util.find_spec("fastapi") is None:
        raise UserError("serving is not installed: pip install 'tl-lightning[serve]'")
    from tl_lightning.serving.app import application
    from tl_lightning.serving.inference import InferenceModel

    found = None
    if options.unknown is not False:
        try:
            found = neighbours()
        except (UserError, OSError) as error:  # its samples are gone, or its folder cannot be written
            if options.unknown:
                raise
            log.info(f"unknown   cannot be told: {error}")
    inference = InferenceModel(model, options.engine, found, options.max_megapixels)
    log.info(f"engine    {inference.predictor.prefix.name}")
    return application(inference, token=options.token, max_mb=options.max_mb, hosts=options.hosts)


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def token_for(host: str, token: str) -> str:
    """The token that is asked for: the one given, that of the environment, or for other machines a new one."""
    return token or os.environ.get(TOKEN, "") or ("" if is_loopback(host) else secrets.token_urlsafe(24))


def listening(host: str, port: int) -> socket.socket:
    """A socket on a port, 0 for one that is free. Raises UserError where it cannot be had."""
    found = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
    except (OSError, OverflowError) as error:
        found.close()
        raise UserError(f"host={host} port={port} cannot be had ({error}): name another, or port=0") from error
    return found


def run(make: Callable[[], FastAPI], host: str, port: int, token: str) -> None:
    """Serve what is made until Ctrl-C or SIGTERM. Raises UserError, before it is made, where the port cannot be had."""
    checks.whole("port", port, 0, 65535)
    with listening(host, port) as found:
        app = make()
        import uvicorn

        logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # it tells of every byte that is amiss
        url = f"http://{f'[{host}]' if ':' in host else host}:{found.getsockname()[1]}/"
        fragment = f"#token={quote(token, safe='')}" if token else ""
        print(f"{url}{fragment}  (programs: {url}docs)", flush=True)
        config = uvicorn.Config(
            app, log_level="warning", limit_concurrency=_MOST, timeout_graceful_shutdown=_SECONDS, server_header=False
        )
        uvicorn.Server(config).run(sockets=[found])
