"""The application: REST, MCP and health in one process. Served as `uvicorn src.api.main:app`."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from mcp.server.transport_security import TransportSecuritySettings

from src.api import health, tasks
from src.database import Database, DatabaseUnavailable
from src.mcp_server import create_mcp_server
from src.settings import Settings
from src.tasks.repository import TaskNotFound

MAX_BODY_BYTES = 64 * 1024
"""No honest request comes near it: a title has at most 200 characters."""


def create_app(settings: Settings) -> FastAPI:
    """The application on the database that `settings` names. Does not connect yet."""
    database = Database(settings.database_url)
    mcp_server = create_mcp_server(database)
    mcp_app = mcp_server.streamable_http_app(
        streamable_http_path="/mcp",
        # Every request stands alone, so any replica can answer it and plain JSON-RPC clients work.
        stateless_http=True,
        json_response=True,
        # The service is reached under names only its cluster knows; who may reach it is the network's to say.
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with mcp_server.session_manager.run():
            yield
        database.close()

    # FastAPI's own pages for people load their scripts from another host: only openapi.json stays.
    app = FastAPI(
        title="Tasks",
        version="0.1.0",
        lifespan=lifespan,
        max_body_size=MAX_BODY_BYTES,
        docs_url=None,
        redoc_url=None,
    )
    app.state.database = database
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(TaskNotFound, _not_found)
    app.add_exception_handler(DatabaseUnavailable, _unavailable)
    app.include_router(health.router)
    app.include_router(tasks.router)
    # Not app.mount("/mcp", ...): a mount answers /mcp itself with a redirect to /mcp/.
    app.router.routes.extend(mcp_app.routes)
    return app


def _invalid(_request: Request, error: Exception) -> JSONResponse:
    # FastAPI's own handler sends the input back, and fails with a 500 where that is no valid Unicode.
    assert isinstance(error, RequestValidationError)
    detail = [{"loc": found["loc"], "msg": found["msg"].removeprefix("Value error, ")} for found in error.errors()]
    return JSONResponse({"detail": detail}, status_code=422)


def _not_found(_request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, status_code=404)


def _unavailable(_request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, status_code=503)


app = create_app(Settings.from_environment(os.environ))
