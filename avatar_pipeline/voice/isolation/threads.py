"""How many threads torch takes while a voice is isolated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch to one thread: a frame is too small to share, and on a busy machine threads wait for each other.

    Measured on two cores shared with other work: 0.3 s with one thread, 4 s with two, for ten seconds of audio. It
    also makes the result the same whatever number is set.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
