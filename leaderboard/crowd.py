"""Many visitors at once, without browsers: sessions that speak with the server as a page does.

``python -m leaderboard.crowd SESSIONS SECONDS`` has the store of MAEC_HOME looked at by so many
sessions for so long, kills the server and starts it again half-way, and prints figures as JSON.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import sys
import time
from dataclasses import dataclass, field

import psutil
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from harness.home import home
from leaderboard import headless

PAGES = ("", "map", "compare", "cost", "inside", "items", "reproduce", "live")
PAUSE = (0.5, 3.0)
"""Seconds that a visitor looks at a page."""
VISIT = 6
"""Pages that a visitor opens on average before leaving; another one comes then."""
LONGEST_MESSAGE = 1 << 26


@dataclass
class Seen:
    """What the sessions saw: seconds each page took, and what was wrong on it."""

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    lost: int = 0
    """Connections that broke."""


async def look(address: str, sessions: int, seconds: float, seed: int = 0) -> Seen:
    """Have ``sessions`` visitors at a time look at pages for so long."""
    seen, end = Seen(), time.monotonic() + seconds
    await asyncio.gather(
        *(_visitors(address, end, random.Random(f"{seed}-{n}"), seen) for n in range(sessions))
    )
    return seen


async def _visitors(address: str, end: float, chance: random.Random, seen: Seen) -> None:
    """One visitor after the other."""
    while time.monotonic() < end:
        try:
            async with _session(address) as session:
                while time.monotonic() < end and chance.random() > 1 / VISIT:
                    began = time.monotonic()
                    page = chance.choice(PAGES)
                    seen.errors += await _page(session, page, _query(page, chance))
                    seen.seconds.append(time.monotonic() - began)
                    await asyncio.sleep(chance.uniform(*PAUSE))
        except (OSError, ConnectionClosed):
            seen.lost += 1
            await asyncio.sleep(1)


def _session(address: str) -> connect:
    url = f"{address.replace('http', 'ws', 1)}/_stcore/stream"
    return connect(url, subprotocols=["streamlit"], max_size=LONGEST_MESSAGE)


def _query(page: str, chance: random.Random) -> str:
    """Filters of the ranking, in its address."""
    return (
        "" if page else f"spread={chance.choice(['true', 'false'])}&search={chance.choice('aem')}"
    )


async def _page(session: ClientConnection, page: str, query: str) -> list[str]:
    """Open a page and wait until its script has ended; returns the errors that it shows."""
    asked = BackMsg()
    asked.rerun_script.page_name = page
    asked.rerun_script.query_string = query
    await session.send(asked.SerializeToString())
    wrong = []
    async with asyncio.timeout(headless.PATIENCE):
        while True:
            said = ForwardMsg()
            said.ParseFromString(await session.recv())
            kind = said.WhichOneof("type")
            if kind == "script_finished":
                return wrong
            element = said.delta.new_element
            if element.WhichOneof("type") == "exception":
                wrong.append(f"{page}: {element.exception.type}: {element.exception.message}")
            elif element.WhichOneof("type") == "alert" and element.alert.format == 1:
                wrong.append(f"{page}: {element.alert.body}")


def crowd(sessions: int, seconds: float) -> dict[str, float]:
    """Figures of ``sessions`` visitors in two halves, the server killed between them.

    Memory (MiB) is the server's, after a first round of all pages and at the end of the first half.
    """
    port = headless.free_port()
    with headless.serving(home(), port=port) as server:
        process = psutil.Process(server.pid)
        first = asyncio.run(look(server.address, sessions, seconds / 10))
        warm = process.memory_info().rss
        second = asyncio.run(look(server.address, sessions, seconds / 2, seed=1))
        end = process.memory_info().rss
        process.kill()
    with headless.serving(home(), port=port) as server:
        again = asyncio.run(look(server.address, sessions, seconds * 4 / 10, seed=2))
    took = sorted(first.seconds + second.seconds + again.seconds)
    for error in first.errors + second.errors + again.errors:
        print(error, file=sys.stderr)
    return {
        "sessions": sessions,
        "pages": len(took),
        "errors": len(first.errors + second.errors + again.errors),
        "connections lost": first.lost + second.lost + again.lost,
        "a page, median, s": statistics.median(took),
        "a page, 95 %, s": took[int(0.95 * len(took))],
        "pages after a restart": len(again.seconds),
        "server after a first round, MiB": warm / 2**20,
        "server at the end, MiB": end / 2**20,
    }


if __name__ == "__main__":
    print(json.dumps(crowd(int(sys.argv[1]), float(sys.argv[2])), indent=1))
