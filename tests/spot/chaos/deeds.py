"""The deeds: what is done to a run for each kind of disturbance, as a method of the kind's name."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from avatar_pipeline.lab.cluster import Taint
from tests.spot.chaos.rig import Missed, Rig
from tests.spot.chaos.scenario import Act

Deed = Callable[[str, int, Act], None]
"""Does something to an attempt of a step, as an act says."""


class Deeds:
    """What can be done to the attempts of a rig's run."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig

    def of(self, kind: str) -> Deed:
        """Return how a kind of disturbance is done."""
        deed: Deed = getattr(self, f"_{kind.removeprefix('late_')}")
        return deed

    def _pod(self, step: str, attempt: int) -> str:
        pod = self.rig.pod(step, attempt)
        if pod is None:
            raise Missed(f"attempt {attempt} of {step} has no pod any more")
        return str(pod["metadata"]["name"])

    def _node(self, step: str, attempt: int) -> str:
        pod = self.rig.pod(step, attempt)
        if pod is None or not pod["spec"].get("nodeName"):
            raise Missed(f"attempt {attempt} of {step} has no node")
        return str(pod["spec"]["nodeName"])

    def _evict(self, step: str, attempt: int, act: Act) -> None:
        self.rig.cluster.evict(self._pod(step, attempt))

    def _drain(self, step: str, attempt: int, act: Act) -> None:
        self.rig.cluster.drain(self._node(step, attempt))

    def _preempt(self, step: str, attempt: int, act: Act) -> None:
        self.rig.cluster.preempt(self._pod(step, attempt))

    def _reclaim(self, step: str, attempt: int, act: Act) -> None:
        self.rig.cluster.reclaim(self._node(step, attempt), notice_seconds=act.seconds)

    _reclaim_short = _reclaim

    def _shutdown(self, step: str, attempt: int, act: Act) -> None:
        self.rig.cluster.shutdown(self._node(step, attempt))

    def _shutdown_short(self, step: str, attempt: int, act: Act) -> None:
        self.rig.cluster.shutdown(self._node(step, attempt), grace_seconds=0.02)

    def _taint(self, step: str, attempt: int, act: Act) -> None:
        self.rig.cluster.taint(self._node(step, attempt), Taint("example.com/maintenance", effect="NoExecute"))

    def _press(self, step: str, attempt: int, act: Act) -> None:
        self.rig.cluster.press(self._pod(step, attempt))

    def _kill_node(self, step: str, attempt: int, act: Act) -> None:
        self.rig.cluster.kill(self._node(step, attempt))

    def _remove_node(self, step: str, attempt: int, act: Act) -> None:
        self.rig.cluster.remove_node(self._node(step, attempt))

    def _kill_pod(self, step: str, attempt: int, act: Act) -> None:
        self.rig.cluster.kill_pod(self._pod(step, attempt))

    def _sigterm(self, step: str, attempt: int, act: Act) -> None:
        self.rig.cluster.signal_pod(self._pod(step, attempt), signal.SIGTERM)

    def _hang_evict(self, step: str, attempt: int, act: Act) -> None:
        self._told(step, attempt, "hang")
        self.rig.cluster.evict(self._pod(step, attempt), grace_seconds=1)

    def _delete_pod(self, step: str, attempt: int, act: Act) -> None:
        self.rig.cluster.delete_pod(self._pod(step, attempt))

    def _delete_pod_now(self, step: str, attempt: int, act: Act) -> None:
        self.rig.cluster.delete_pod(self._pod(step, attempt), 0)

    def _delete_job(self, step: str, attempt: int, act: Act, how: str = "Background") -> None:
        job = self.rig.job(step, attempt)
        if job is not None:
            self.rig.cluster.delete_job(job["metadata"]["name"], how)

    def _delete_job_foreground(self, step: str, attempt: int, act: Act) -> None:
        self._delete_job(step, attempt, act, "Foreground")

    def _orphan_job(self, step: str, attempt: int, act: Act) -> None:
        self._delete_job(step, attempt, act, "Orphan")

    def _stuck_start(self, step: str, attempt: int, act: Act) -> None:
        """Its start takes for ever; that was prepared."""

    _image = _image_invalid = _no_spot = _no_capacity = _deadline = _stuck_start

    def _image_for_a_while(self, step: str, attempt: int, act: Act) -> None:
        time.sleep(act.seconds)
        self.rig.cluster.mend_pulls(f"gpu:{step}")

    def _oom(self, step: str, attempt: int, act: Act) -> None:
        self.rig.cluster.oom(self._pod(step, attempt))

    def _told(self, step: str, attempt: int, how: str) -> None:
        self.rig.command(step, how)
        self.rig.until(lambda: self.rig.said(step, how, attempt), f"{step} to obey {how!r}")

    def _exit_0(self, step: str, attempt: int, act: Act) -> None:
        self._told(step, attempt, "exit_0")

    def _exit_3(self, step: str, attempt: int, act: Act) -> None:
        self._told(step, attempt, "exit_3")

    def _error(self, step: str, attempt: int, act: Act) -> None:
        self._told(step, attempt, "error")

    def _deadline_hang(self, step: str, attempt: int, act: Act) -> None:
        self._told(step, attempt, "hang")

    def _outage(self, step: str, attempt: int, act: Act) -> None:
        self.rig.cluster.outage(act.seconds)

    def _outage_evict(self, step: str, attempt: int, act: Act) -> None:
        self.rig.cluster.outage(act.seconds)
        time.sleep(act.seconds / 4)
        self._evict(step, attempt, act)

    def _outage_kill_node(self, step: str, attempt: int, act: Act) -> None:
        self.rig.cluster.outage(act.seconds)
        time.sleep(act.seconds / 4)
        self._kill_node(step, attempt, act)

    def _drop(self, step: str, attempt: int, act: Act) -> None:
        self.rig.cluster.drop(act.calls, method=act.method, path=act.path)

    def _drop_before(self, step: str, attempt: int, act: Act) -> None:
        self.rig.cluster.drop(act.calls, before=True, method=act.method, path=act.path)

    def _delay(self, step: str, attempt: int, act: Act) -> None:
        self.rig.cluster.delay(act.calls, act.seconds, method=act.method, path=act.path)

    def _fail_500(self, step: str, attempt: int, act: Act) -> None:
        self.rig.cluster.fail(act.calls, 500, method=act.method, path=act.path)

    def _fail_429(self, step: str, attempt: int, act: Act) -> None:
        self.rig.cluster.fail(act.calls, 429, retry_after=1, method=act.method, path=act.path)

    def _rebalance(self, step: str, attempt: int, act: Act) -> None:
        self.rig.cluster.rebalance(self._node(step, attempt))

    def _cordon(self, step: str, attempt: int, act: Act) -> None:
        self.rig.cluster.cordon(self._node(step, attempt))

    def _worker_killed(self, step: str, attempt: int, act: Act) -> None:
        self.rig.kill_worker()
        time.sleep(act.seconds / 2)
        self.rig.resume()

    def _away_evict(self, step: str, attempt: int, act: Act) -> None:
        self._away(step, attempt, act, self._evict)

    def _away_kill_node(self, step: str, attempt: int, act: Act) -> None:
        self._away(step, attempt, act, self._kill_node)

    def _away_exit_3(self, step: str, attempt: int, act: Act) -> None:
        self._away(step, attempt, act, self._exit_3)

    def _away_oom(self, step: str, attempt: int, act: Act) -> None:
        self._away(step, attempt, act, self._oom)

    def _away(self, step: str, attempt: int, act: Act, deed: Callable[[str, int, Act], None]) -> None:
        self.rig.kill_worker()
        deed(step, attempt, act)
        time.sleep(act.seconds / 2)
        self.rig.resume()

    def _reexecuted(self, step: str, attempt: int, act: Act) -> None:
        self.rig.kill_worker()
        time.sleep(act.seconds / 2)
        self.rig.replace_run()

    def _cancel(self, step: str, attempt: int, act: Act) -> None:
        self.rig.cancel()
