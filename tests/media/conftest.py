from __future__ import annotations

from pathlib import Path

import pytest

from tests.media.samples import tone, write_video


@pytest.fixture(scope="session")
def talking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """75 numbered frames at 25 fps, with B-frames, and three seconds of a tone; the index comes first."""
    return write_video(
        tmp_path_factory.mktemp("talking") / "talking.mp4",
        frames=75,
        sound=tone(3.0),
        options={"preset": "medium"},
        container_options={"movflags": "+faststart"},
    )
