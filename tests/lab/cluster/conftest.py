"""A cluster for a test, and the real Kubernetes client for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from avatar_pipeline.lab.cluster import Cluster, Zygote
from tests.lab.cluster.client import Client

Start = Callable[..., "tuple[Cluster, Client]"]


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """The process that starts all containers of these tests."""
    with Zygote() as one:
        yield one


@pytest.fixture
def start(zygote: Zygote) -> Iterator[Start]:
    """Start a cluster for this test; returns it with a client. Keywords are those of Cluster."""
    with ExitStack() as stack:

        def begin(*arguments: Any, **keywords: Any) -> tuple[Cluster, Client]:
            cluster = stack.enter_context(Cluster(*arguments, zygote=zygote, **keywords))
            return cluster, Client(cluster)

        yield begin


@pytest.fixture(scope="module")
def shared(zygote: Zygote) -> Iterator[tuple[Cluster, Client]]:
    """One cluster for all tests of a module that leave it as they found it, with a client."""
    with Cluster(zygote=zygote) as cluster:
        yield cluster, Client(cluster)
