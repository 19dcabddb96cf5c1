"""The asyncio driver: real sockets, disk and time under the machines that the simulator runs."""
