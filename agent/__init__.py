"""The host side: books, VM life cycle and hypervisor drivers.

``simulated_host(...)`` describes a host for ``fabric.open(host=...)``.
"""

from agent.host import HostSpec, simulated_host

__all__ = ["HostSpec", "simulated_host"]
