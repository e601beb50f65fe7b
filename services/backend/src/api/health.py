"""GET /health: can this process serve a request now?"""

from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel

from src.database import Database

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """The answer of a healthy backend; an unhealthy one gives 503 and a `detail`."""

    status: Literal["ok"] = "ok"
    database: str


@router.get("/health")
def health(request: Request) -> Health:
    """Asks the database, so a backend without one is taken out of rotation."""
    database: Database = request.app.state.database
    database.ping()
    return Health(database=database.kind)
