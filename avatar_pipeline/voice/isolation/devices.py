"""Where models run."""

from __future__ import annotations

from typing import Literal

from avatar_pipeline.errors import EnvironmentProblem

Device = Literal["auto", "cpu", "cuda"]


def choose_device(wanted: Device) -> Literal["cpu", "cuda"]:
    """Return the device to be used: with 'auto' a GPU, where there is one that torch can use.

    Raises:
        EnvironmentProblem: a GPU is wanted, and there is none.
    """
    if wanted == "cpu":
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if wanted == "auto":
        return "cpu"
    raise EnvironmentProblem(
        "AVATAR_ISOLATION_DEVICE is 'cuda', and torch finds no GPU that it can use.",
        remedy="Install a torch build with CUDA and the driver, or set it to 'auto'.",
    )
