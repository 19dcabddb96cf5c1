"""How fast real peers find out: 200 of them on this machine, beside Serf in the same run.

``python -m benchmarks.membership [--quick] [--json] [--without-serf]``.  One fabric is formed over
ZeroMQ (loopback) and put through this, in order:

1. *join storm*: all peers at once, until each knows its path and the root counts every host;
2. *idle*: bytes that peers hand to ZeroMQ, and the memory of peers that have a process to
   themselves;
3. *frozen*: 12 % of the peers are stopped (SIGSTOP) for 30 s; nobody else may be found dead;
4. *killed* (SIGKILL) and *cut off* (SIGSTOP for good), one after another: the time until every
   member of the victim's cell knows, and the root's owner counts one host less;
5. *takeover*: leaf cells' owners are ended, half of the times while the coordinator does not
   answer: the time until a placement that can only go into that cell succeeds again;
6. *simulated* (:mod:`benchmarks.membership.scale`), with the same code: state and traffic of a peer
   in a tree of a million hosts, a storm of 10,000 joins, what the chairman writes for one death.

Peers that are to be killed or stopped have a process each; the others share a few.  Serf's agents
are Debian's, one process each, with their ``lan`` profile and ``-retry-interval 1s``.
"""
