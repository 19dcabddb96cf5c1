"""The store's part of the hunt for planted bugs: three replicas of one shard, seed after seed.

Run by ``sim.mutants`` in a scratch copy, as ``python -m tests.sim.store_arena FIRST END``.
"""

from __future__ import annotations

import sys

import fabric.cloudstore.replication as replication_module
import fabric.cloudstore.shard as shard_module
from sim.mutants.arena import Finding, go
from tests.sim.store_cluster import Violation, World


def store_run(seed: int) -> Finding | None:
    """Run three replicas through crashes, cuts and loss."""
    try:
        World(seed).run()
    except Violation as violation:
        return Finding("store", str(violation))
    except Exception as error:  # an assertion of the machine itself saw it first
        return Finding("machine-raised", f"{type(error).__name__}: {error}")
    return None


if __name__ == "__main__":
    # tiny limits, so that trimming and many batches are part of every run
    shard_module.LOG_KEEP_BYTES = 4000
    replication_module.MAX_BATCH = 2
    go(store_run, int(sys.argv[1]), int(sys.argv[2]))
