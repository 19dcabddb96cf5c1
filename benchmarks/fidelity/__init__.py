"""The simulator against real peers: one scenario, run in both, and what each of them says.

``python -m benchmarks.fidelity [--quick] [--runs N] [--write] --json``, or ``make fidelity``.

50 peers (three of them candidates for the chair) start within five seconds, form a tree, idle, and
then lose one owner of a leaf cell after the other.  The real ones live in a few processes, each
with its own ZeroMQ sockets, data directory and counters; the simulated ones have the same node
ids, sizes, settings and arrival times.  Both are watched by the same code, which asks each peer
for its status and listens to its notices.

=================  =================================================================
``plan``           what is done when, and who the peers are: drawn from the seed
``account``        what was seen: formed when, owners, takeovers, the quiet window
``virtual``        the scenario in the simulator
``real``           the scenario over ZeroMQ: starts ``worker`` processes, strikes owners
``worker``         one process with several peers
``report``         the comparison, its verdict, ``sim/FIDELITY.md``
=================  =================================================================
"""
