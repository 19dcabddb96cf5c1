"""A fabric without peers: real books and simulated hypervisors, asked directly."""

from __future__ import annotations

from agent import HostSpec, simulated_host
from agent.books import Books
from agent.drivers.simulated import SimulatedHypervisor
from fabric.errors import DeadlineExceeded, Refused, error_from_code
from fabric.machine import Contact, ListSink, Message
from fabric.placement.request import Placed, PlacementRequest
from fabric.wire.common import Failure
from fabric.wire.placement import Explanation, HostRefused, Reserve, Reserved


class FakeHost:
    def __init__(self, number: int, spec: HostSpec) -> None:
        self.contact = Contact(number, f"inproc://host-{number}")
        self.books = spec.books(self.contact)
        self.hypervisor = SimulatedHypervisor()
        self.silent = False
        self.gone = False

    def ask(self, body: Message, now: int) -> Message:
        sink = ListSink()
        answer = self.books.call(body, 1, now, sink)
        result = answer.body
        while outputs := sink.take():
            for output in outputs:
                call, op = output.args
                done, error = self.hypervisor.execute(call)
                for token, later in self.books.driven(op, done, error, now, sink):
                    result = later.body if token == 1 and result is None else result
        assert result is not None
        return result


class FakeHosts:
    """Implements ``nodes.worker.Hosts``. First fit, so that tests know who is asked."""

    def __init__(self, count: int = 3, spec: HostSpec | None = None) -> None:
        spec = spec or simulated_host(cpu=4, memory_mb=8192)
        self.all = [FakeHost(number, spec) for number in range(1, count + 1)]
        self.asked: list[tuple[str, str]] = []
        self.now = 1_000_000
        self.unreachable = False

    def _tick(self) -> int:
        self.now += 1000
        return self.now

    async def place(self, request: PlacementRequest, timeout_s: float) -> Placed:
        request.check()
        if self.unreachable:
            raise DeadlineExceeded("no answer")
        counts: dict[str, int] = {}
        for host in self.all:
            if host.gone or host.silent:
                continue
            asker = Contact(99, "inproc://entry")
            ask = Reserve(request, 1, asker, 1, asker, 1)
            body = host.books.reserve(ask, self._tick()).body
            if isinstance(body, Reserved):
                expires_at = self.now + body.lifetime_us
                return Placed(
                    request.key, 1, host.contact, body.reservation_id, expires_at, body.datastore
                )
            assert isinstance(body, HostRefused)
            counts[body.reason] = counts.get(body.reason, 0) + 1
        explanation = Explanation(len(self.all), tuple(counts.items()), len(self.all))
        raise Refused("no host has room", explanation=explanation)

    async def ask(self, host: Contact, body: Message, timeout_s: float) -> Message:
        found = next(it for it in self.all if it.contact == host)
        self.asked.append((type(body).__name__, host.address))
        if found.gone or found.silent:
            raise DeadlineExceeded("no answer")
        answer = found.ask(body, self._tick())
        if isinstance(answer, Failure):
            raise error_from_code(answer.code, answer.message, dict(answer.data))
        return answer

    async def gone(self, host: Contact) -> bool:
        return next(it for it in self.all if it.contact == host).gone

    async def find(self, address: str) -> int | None:
        found = [it.contact.node_id for it in self.all if it.contact.address == address]
        return found[0] if found else None

    def books(self) -> list[Books]:
        return [host.books for host in self.all]

    def held(self) -> list[str]:
        """The ids of all VMs in all books."""
        return sorted(vm for books in self.books() for vm in books.vms)
