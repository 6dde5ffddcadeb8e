"""The dashboard in a browser of this machine: textual-serve, restricted to the loopback address and its own pages."""

import logging
import os
import secrets
import sys
from typing import TYPE_CHECKING

from aiohttp import web
from textual_serve import server

from engine.errors import InputError

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

LOOPBACK = "127.0.0.1"
NAMES = (LOOPBACK, "localhost")


class Server(server.Server):
    """A server that starts the command for each page opened. Its address is fixed, as everyone who reaches it may look.

    With `secret`, all paths begin with a token, so that other users of this machine get nothing without it. A cookie
    would be sent to every port of this host.
    """

    def __init__(self, command: str, port: int, secret: bool = False) -> None:
        super().__init__(command, LOOPBACK, port, title="cockpit")
        self.token = secrets.token_urlsafe(32) if secret else ""

    def serve(self, debug: bool = False) -> None:
        """Serve until Ctrl-C."""
        try:
            super().serve(debug)
        except OSError as error:
            raise InputError(
                f"port {self.port} cannot be used ({os.strerror(error.errno or 0)}): give another with --port"
            ) from None

    def initialize_logging(self) -> None:
        """Log only errors, to stderr."""
        logging.basicConfig(level="WARNING")

    async def on_startup(self, app: web.Application) -> None:
        """Print the address."""
        address = f"http://{self.host}:{self.port}" + (f"/{self.token}/" if self.token else "")
        print(f"the dashboard is at {address} (Ctrl-C ends it)", file=sys.stderr, flush=True)

    async def handle_index(self, request: web.Request) -> web.StreamResponse:
        """The page. Its links use the address of the request, as an ssh tunnel may have another port."""
        self.public_url = f"http://{request.host}"
        return await super().handle_index(request)

    async def _make_app(self) -> web.Application:
        app = await super()._make_app()
        if self.token:
            below, app = app, web.Application()
            app.add_subapp(f"/{self.token}/", below)
            app.router.add_get("/download/{key}", self.handle_download)  # the page's path; the key is secret
        app.middlewares.append(_own_pages_only)
        return app


@web.middleware
async def _own_pages_only(request: web.Request, handler: "Handler") -> web.StreamResponse:
    """Refuse requests of other pages in the same browser, which could press keys and read the screen."""
    if (
        request.url.host not in NAMES
        or request.headers.get("Origin", f"http://{request.host}") != f"http://{request.host}"
    ):
        raise web.HTTPForbidden(text="the cockpit answers to its own page, at 127.0.0.1 or localhost, only")
    return await handler(request)
