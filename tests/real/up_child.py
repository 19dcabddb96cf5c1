"""``fabric up`` as a process for tests: prints its endpoint; each line on stdin asks for the books.

python -m tests.real.up_child DATA_DIR HOSTS
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from nodes.demo.books import read_book
from nodes.service import Listen
from nodes.up import UpOptions, up


async def main(data_dir: str, hosts: str) -> None:
    options = UpOptions(int(hosts), Path(data_dir), accept_any_image=True, listen=Listen(port=0))
    async with up(options) as ready:
        print(json.dumps({"url": ready.url}), flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            entry, books = ready.hosts[0], {}
            for host in ready.hosts:
                book = await read_book(entry.call, host.contact.address, host.contact)
                assert not book.fault(), book.fault()
                confirmed = [row.key for row in book.reservations if not row.expires_at]
                books[book.name] = [[vm.vm_id for vm in book.vms], confirmed]
            print(json.dumps(books), flush=True)


asyncio.run(main(*sys.argv[1:]))
