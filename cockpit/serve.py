"""The dashboard in a browser of this machine: textual-serve, kept to the loopback address and to its own pages."""

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
    """Starts the command anew for each page that is opened. Its address is no option: whoever reaches it may look.

    With `secret` all is below a token in the address, without which other users of this machine find nothing. A cookie
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
        """Only what goes wrong is said, on stderr."""
        logging.basicConfig(level="WARNING")

    async def on_startup(self, app: web.Application) -> None:
        """Say where it is."""
        address = f"http://{self.host}:{self.port}" + (f"/{self.token}/" if self.token else "")
        print(f"the dashboard is at {address} (Ctrl-C ends it)", file=sys.stderr, flush=True)

    async def handle_index(self, request: web.Request) -> web.StreamResponse:
        """The page, whose addresses are those that it was asked for by: an ssh tunnel may have another port."""
        self.public_url = f"http://{request.host}"
        return await super().handle_index(request)

    async def _make_app(self) -> web.Application:
        app = await super()._make_app()
        if self.token:
            below, app = app, web.Application()
            app.add_subapp(f"/{self.token}/", below)
            app.router.add_get("/download/{key}", self.handle_download)  # where the page looks; the key is a secret
        app.middlewares.append(_own_pages_only)
        return app


@web.middleware
async def _own_pages_only(request: web.Request, handler: "Handler") -> web.StreamResponse:
    """Refuse what other pages in the same browser ask for: they could press keys here, and read what is shown."""
    if (
        request.url.host not in NAMES
        or request.headers.get("Origin", f"http://{request.host}") != f"http://{request.host}"
    ):
        raise web.HTTPForbidden(text="the cockpit answers to its own page, at 127.0.0.1 or localhost, only")
    return await handler(request)
