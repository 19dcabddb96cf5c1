"""What tests of several directories share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nodes.demo.zookeepers import LocalEnsemble, missing


@pytest.fixture(scope="session")
def zookeeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEnsemble]:
    """One ZooKeeper server for all tests that do it no harm; each uses a path of its own."""
    if why := missing():
        pytest.skip(f"WITHOUT A TEST ON REAL ZOOKEEPER: {why}")
    directory = tmp_path_factory.mktemp("zookeeper")
    with LocalEnsemble(directory, size=1, settings=["maxSessionTimeout=120000"]) as ensemble:
        yield ensemble
