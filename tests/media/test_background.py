import threading

import pytest

from avatar_pipeline.media.background import in_background


def test_items_come_in_order():
    assert list(in_background((i for i in range(100)), depth=3, name="test")) == list(range(100))


def test_an_error_is_raised_after_the_items_before_it():
    def items():
        yield 1
        yield 2
        raise RuntimeError("broken")

    seen = []
    with pytest.raises(RuntimeError, match="broken"):
        seen.extend(in_background(items(), depth=1, name="test"))
    results = in_background(items(), depth=1, name="test")
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(RuntimeError):
        next(results)


def test_closing_early_cleans_up_in_the_thread_that_did_the_work():
    threads = []

    def items():
        threads.append(threading.get_ident())
        try:
            while True:
                yield 0
        finally:
            threads.append(threading.get_ident())

    running = in_background(items(), depth=2, name="test")
    next(running)
    running.close()
    assert threads[0] == threads[1] != threading.get_ident()
