"""Addresses as people write them: ``tcp://127.0.0.1:7000``, ``tcp://[::1]:0``, ``inproc://name``.

Without keys everything stays on this machine: neither binding nor dialling beyond loopback is
allowed, since whoever reaches the port could speak for any peer.  With keys an address may be any
that others can reach; the wildcard is none, since it is what a peer tells others to dial.
"""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

from fabric.errors import BadInput
from fabric.limits import MAX_ADDRESS

MAX_PORT = 65535


class TcpAddress(NamedTuple):
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{self.port}"


def _bad(address: str, why: str) -> BadInput:
    return BadInput(
        f"address {address[:MAX_ADDRESS]!r} {why}",
        {"field": "address", "value": address[:MAX_ADDRESS]},
    )


def parse_tcp(address: str) -> TcpAddress:
    """Read ``tcp://HOST:PORT``. Raises :class:`BadInput` that names the address."""
    if len(address) > MAX_ADDRESS:
        raise _bad(address, f"is longer than {MAX_ADDRESS} characters")
    if not address.startswith("tcp://"):
        raise _bad(address, "must look like tcp://127.0.0.1:7000")
    host, colon, port_text = address.removeprefix("tcp://").rpartition(":")
    if not colon or not host:
        raise _bad(address, "needs a host and a port, as in tcp://127.0.0.1:7000")
    if not (port_text.isascii() and port_text.isdigit()) or int(port_text) > MAX_PORT:
        raise _bad(address, f"needs a port between 0 and {MAX_PORT}")
    host = host.removeprefix("[").removesuffix("]")
    return TcpAddress("127.0.0.1" if host == "localhost" else host, int(port_text))


def parse_dialled(address: str, *, loopback: bool = True) -> TcpAddress:
    """Read an address to connect to: as :func:`parse_bound`, with a port."""
    tcp = parse_bound(address, loopback=loopback)
    if tcp.port == 0:
        raise _bad(address, "needs the port that the peer is bound to")
    return tcp


def parse_bound(address: str, *, loopback: bool = True) -> TcpAddress:
    """Read a numeric address, on this machine (``loopback``: without keys) or any that others can

    reach. Raises :class:`BadInput`.
    """
    tcp = parse_tcp(address)
    try:
        ip = ipaddress.ip_address(tcp.host)
    except ValueError:
        raise _bad(address, "needs a numeric host, as in tcp://127.0.0.1:7000") from None
    if loopback and not ip.is_loopback:
        raise _bad(
            address,
            "is reachable from other machines, which needs keys; without keys use 127.0.0.1 or ::1",
        )
    if ip.is_unspecified or ip.is_multicast:
        raise _bad(address, "is no address at which others reach one peer")
    return tcp
