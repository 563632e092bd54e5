"""The page about the HTTP interface: drawn in the browser from openapi.json, with nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from starlette.responses import HTMLResponse, Response

PAGE = Path(__file__).parents[1] / "reference.html"
POLICY = (
    "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""A key is typed into this page, so it talks to nobody but us."""

router = APIRouter()


@router.get("/docs", include_in_schema=False)
async def reference() -> Response:
    """Show what can be asked, and let people ask it."""
    return HTMLResponse(PAGE.read_bytes(), headers={"Content-Security-Policy": POLICY})
