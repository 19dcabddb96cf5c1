"""``/status``."""

from __future__ import annotations

from nodes.front import status
from nodes.front.call import Call, Reply, Route


async def get_status(call: Call) -> Reply:
    return Reply(200, status.render(await call.status()))


ROUTES = (Route("GET", "/status", get_status),)
