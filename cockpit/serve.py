"""The dashboard in a browser of this machine: textual-serve, kept to the loopback address and to its own pages."""

import logging
import os
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
    """Starts the command anew for each page that is opened. Its address is no option: whoever reaches it may act."""

    def __init__(self, command: str, port: int) -> None:
        super().__init__(command, LOOPBACK, port, title="cockpit")

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
        print(f"the dashboard is at http://{self.host}:{self.port} (Ctrl-C ends it)", file=sys.stderr, flush=True)

    async def handle_index(self, request: web.Request) -> web.StreamResponse:
        """The page, whose addresses are those that it was asked for by: an ssh tunnel may have another port."""
        self.public_url = f"http://{request.host}"
        return await super().handle_index(request)

    async def _make_app(self) -> web.Application:
        app = await super()._make_app()
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
