"""What a user configures of the spot executor, beside everything that the stock executor takes."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import dagster as dg
from pydantic import Field

from avatar_pipeline.spot.classification import Limits
from avatar_pipeline.spot.placement import PlacementPolicy, Strategy
from avatar_pipeline.spot.profiles import DEFAULT_PROFILES, ComputeProfile, load_profiles


class SpotConfig(dg.Config):
    """The `spot` part of the executor's configuration; every field has a default that works."""

    strategy: str = Field(
        default=Strategy.SPOT_THEN_ON_DEMAND.value,
        pattern=f"^({'|'.join(Strategy)})$",
        description="on_demand; spot_then_on_demand (after so many interruptions); deadline (as the time left asks).",
    )
    interruptions_before_on_demand: int = Field(default=2, ge=0, description="Interruptions a step bears on spot.")
    interruption_budget: int = Field(
        default=10, ge=0, description="Interruptions a step survives in all. Its RetryPolicy is not touched by them."
    )
    on_demand_base: int = Field(default=0, ge=0, description="GPU steps that run on-demand before any runs on spot.")
    on_demand_percentage_above_base: int = Field(
        default=0, ge=0, le=100, description="Share of the GPU steps above the base that run on-demand."
    )
    max_offerings: int | None = Field(
        default=None, ge=1, description="Instance type and zone pairs that one attempt may choose from; null for all."
    )
    capacity_mark_seconds: int = Field(
        default=180, ge=1, description="How long an offering that had no capacity is passed over."
    )
    pending_seconds: int | None = Field(
        default=None, ge=1, description="How long a pod may wait for a node, in the place of its profile's limit."
    )
    start_seconds: int = Field(default=900, ge=1, description="How long a pod that has a node may take to start.")
    image_pull_seconds: int | None = Field(
        default=None, ge=1, description="How long an image may fail to be pulled, in the place of its profile's limit."
    )
    silent_exit_seconds: int = Field(
        default=30, ge=1, description="How long after exit 0 the event log may not have heard of it."
    )
    terminating_slack_seconds: int = Field(
        default=30, ge=0, description="How long past its grace period a pod on a silent node is waited for."
    )
    restart_seconds: float = Field(
        default=180.0,
        ge=0,
        description="What another start takes: node, image, loading; for the deadline strategy.",
    )
    check_interval_seconds: int = Field(default=5, ge=1, description="How often Kubernetes is asked about each step.")
    poll_seconds: float = Field(
        default=0.5,
        gt=0,
        le=5,
        description="How often the event log is read, where workers say that they were told to go.",
    )
    profile: str = Field(default="gpu-small", description="The compute profile of steps that name none.")
    profiles_file: str | None = Field(default=None, description="YAML or JSON file with more profiles.")

    @property
    def policy(self) -> PlacementPolicy:
        """The placement policy that this configures."""
        return PlacementPolicy(
            strategy=Strategy(self.strategy),
            interruptions_before_on_demand=self.interruptions_before_on_demand,
            on_demand_base=self.on_demand_base,
            on_demand_percentage_above_base=self.on_demand_percentage_above_base,
            interruption_budget=self.interruption_budget,
            mark_ttl=timedelta(seconds=self.capacity_mark_seconds),
            max_offerings=self.max_offerings,
        )

    def limits(self, profile: ComputeProfile) -> Limits:
        """Return how long each state of an attempt with this profile is waited out."""
        return Limits(
            pending_seconds=self.pending_seconds or profile.pending_limit_seconds,
            image_pull_seconds=self.image_pull_seconds or profile.image_pull_limit_seconds,
            silent_exit_seconds=self.silent_exit_seconds,
            start_seconds=self.start_seconds,
            terminating_slack_seconds=self.terminating_slack_seconds,
        )

    def profiles(self) -> dict[str, ComputeProfile]:
        """Return the profiles by name; those of the file replace built-in ones of the same name."""
        more = load_profiles(Path(self.profiles_file)) if self.profiles_file else {}
        return {**DEFAULT_PROFILES, **more}
