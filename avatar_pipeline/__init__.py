"""The engine of avatar_pipeline: plain typed Python that turns a talking-head video into a talking avatar.

Nothing here imports Dagster but the composition root (`definitions`), the in-process launcher (`launch`) and the
spot executor; the packages `assets`, `resources` and `sensors` bind this engine to Dagster.
"""

__version__ = "0.1.0"
