from __future__ import annotations

import os
import sys

import pytest

from avatar_pipeline.face.quiet import without_chatter


def test_chatter_is_dropped_and_everything_else_comes_out_after(capfd: pytest.CaptureFixture[str]) -> None:
    with without_chatter():
        os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n")
        os.write(2, b"W0000 00:00:1795500516.182045    7664 inference_feedback_manager.cc:114] Feedback manager.\n")
        os.write(2, b"E0000 00:00:1795500516.182045    7664 graph.cc:9] broken\n")
        print("a line of ours", file=sys.__stderr__)
    assert capfd.readouterr().err == "E0000 00:00:1795500516.182045    7664 graph.cc:9] broken\na line of ours\n"


def test_blocks_may_nest_and_errors_pass(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError), without_chatter(), without_chatter():
        os.write(2, b"kept\n")
        raise KeyError
    os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate, said outside\n")
    assert capfd.readouterr().err == "kept\nINFO: Created TensorFlow Lite XNNPACK delegate, said outside\n"
