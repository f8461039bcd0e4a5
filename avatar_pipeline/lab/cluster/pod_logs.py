"""Logs of containers, as the API gives them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from starlette.responses import PlainTextResponse, Response, StreamingResponse

from avatar_pipeline.lab.cluster.kubelet import Kubelet
from avatar_pipeline.lab.cluster.store import Object

_FOLLOW_SECONDS = 0.05


def pod_log(kubelet: Kubelet, pod: Object, query: Mapping[str, str]) -> Response:
    """Return a container's log: `container`, `tailLines`, `limitBytes`, `timestamps`, `previous`, `follow`.

    Processes write straight to a file, so the time of a line is not known: `timestamps` gives that of the last writing.
    """
    asked = {name: (query.get(name) or "").lower() in ("true", "1") for name in ("timestamps", "previous", "follow")}
    file = kubelet.log_for(pod, query.get("container"), previous=asked["previous"])
    if asked["follow"]:
        return StreamingResponse(_following(kubelet, pod, file), media_type="text/plain")
    text = file.read_text(errors="replace")
    if (tail := query.get("tailLines")) is not None:
        lines = text.splitlines(keepends=True)
        text = "".join(lines[len(lines) - min(int(tail), len(lines)) :])
    if asked["timestamps"]:
        stamp = datetime.fromtimestamp(file.stat().st_mtime, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
        text = "".join(f"{stamp} {line}" for line in text.splitlines(keepends=True))
    if (most := query.get("limitBytes")) is not None:
        text = text.encode()[: int(most)].decode(errors="replace")
    return PlainTextResponse(text)


async def _following(kubelet: Kubelet, pod: Object, file: Path) -> AsyncIterator[bytes]:
    with file.open("rb") as log:
        while True:
            over = kubelet.is_over(pod)
            if read := log.read():
                yield read
            elif over:
                return
            else:
                await asyncio.sleep(_FOLLOW_SECONDS)
