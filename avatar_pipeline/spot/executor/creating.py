"""Making an executor of one definition inside another one's creation, with the defaults that its schema has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster._config import process_config

from avatar_pipeline.errors import InvalidInput


def create_executor(
    definition: dg.ExecutorDefinition, context: dg.InitExecutorContext, config: Mapping[str, Any]
) -> dg.Executor:
    """Return the executor that a definition makes of `config`, as if the job had been defined with it.

    Raises:
        InvalidInput: the configuration does not fit the definition's schema; all that is wrong is named.
    """
    create = definition.executor_creation_fn
    if create is None:
        raise InvalidInput(f"The executor {definition.name} cannot be created.", remedy="Pin dagster as we do.")
    checked = process_config(definition.config_schema.as_field().config_type, dict(config))
    if not checked.success:
        wrong = "; ".join(error.message for error in checked.errors or [])
        raise InvalidInput(
            f"The configuration of the executor {definition.name} cannot be used: {wrong}",
            remedy="See docs/spot-executor.md.",
        )
    return create(context._replace(executor_config=checked.value or {}))
