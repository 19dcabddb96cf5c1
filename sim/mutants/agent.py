"""Planted bugs in the agent: books, reservations, the life of VMs."""

from __future__ import annotations

from typing import Final

from sim.mutants.mutant import DISKS, Absent, Mutant, mutant

_BOOKS: Final = "agent/books.py"
_LIFE: Final = "agent/lifecycle.py"
_HOSTING: Final = "fabric/placement/hosting.py"

MUTANTS: Final[tuple[Mutant, ...]] = (
    mutant(
        "no-recheck",
        "a host believes its cell's owner that there is room",
        _BOOKS,
        "            (spec.cpu - self.cpu_used, spec.memory_mb - self.memory_used_mb),\n",
        "            (spec.cpu, spec.memory_mb),\n",
    ),
    mutant(
        "reservations-lost-at-restart",
        "a restarted host does not know what it had promised",
        _BOOKS,
        "                self._hold(decode_record(Reservation, value))\n",
        "                pass\n",
    ),
    mutant(
        "reserved-before-durable",
        "a host says that it holds room before that is on disk",
        _HOSTING,
        "        to = ask.entry if isinstance(answer.body, Reserved) else ask.asker\n"
        "        if answer.writes:\n"
        "            out.promise(answer.writes, to, answer.body)\n",
        "        to = ask.entry if isinstance(answer.body, Reserved) else ask.asker\n"
        "        if answer.writes:\n"
        "            out.send(to, answer.body)\n",
        DISKS,
    ),
    mutant(
        "confirmed-ones-expire",
        "a reservation that was confirmed expires all the same",
        _BOOKS,
        "        confirmed = replace(held, expires_at=0)\n",
        "        confirmed = replace(held, expires_at=held.expires_at)\n",
    ),
    mutant(
        "reservations-never-expire",
        "room held for nobody is held for ever",
        _BOOKS,
        "        over = sorted(r.reservation_id for r in provisional if r.expires_at <= now)\n",
        "        over = sorted(r.reservation_id for r in provisional if r.expires_at <= 0)\n",
    ),
    mutant(
        "create-twice",
        "a repeated create of a VM is carried out again",
        _BOOKS,
        "            return self._lifecycle.create_again(self.vms[held.vm_id], token)\n",
        "            self._hold(held)\n"
        "            return self._lifecycle.create(held, token, out)\n",
    ),
    mutant(
        "release-counted-twice",
        "a repeated release gives the same room back again",
        _BOOKS,
        "        del self._by_key[reservation.key]\n"
        "        del self._reservations[reservation.reservation_id]\n",
        "        self._reservations.pop(reservation.reservation_id, None)\n",
    ),
    mutant(
        "doubled-reserve-reserves-twice",
        "a reserve that arrives twice is carried out twice",
        _BOOKS,
        "        held = self._by_key.get(request.key)\n"
        "        if held is not None:\n"
        "            if ask.attempt < held.attempt:\n",
        "        held = None\n"
        "        if held is not None:\n"
        "            if ask.attempt < held.attempt:\n",
    ),
    mutant(
        "half-made-vm-is-forgotten",
        "a create that a crash interrupted is not gone on with",
        _LIFE,
        "            if vm.state in PASSING:\n"
        "                self._begin(vm, Operation(vm_id), out)\n",
        "            if vm.state in PASSING:\n                pass\n",
    ),
    mutant(
        "room-freed-before-the-vm-is-gone",
        "a VM that the hypervisor could not remove is taken out of the books",
        _LIFE,
        "        if error is None:\n            del self.vms[vm.vm_id]\n",
        "        if error is None or error:\n            del self.vms[vm.vm_id]\n",
    ),
    mutant(
        "confirmed-before-durable",
        "a host says that a reservation is confirmed before that is on disk",
        _HOSTING,
        "                out.promise(answer.writes, asker.entry, message)\n",
        "                out.persist(answer.writes, 0)\n"
        "                out.send(asker.entry, message)\n",
        DISKS,
    ),
)

ABSENT: Final[tuple[Absent, ...]] = ()
