"""Reading a YAML file of an operator: of a bounded size, safely, and with no key written twice."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from avatar_pipeline.budget.file_values import shown
from avatar_pipeline.errors import InvalidInput

_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
MOST_BYTES = 256 * 1024


def read_yaml(path: Path) -> object:
    """Return what a YAML or JSON file holds.

    Raises:
        InvalidInput: it cannot be read, is too large, is not YAML in UTF-8, or has a key twice.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
        text = raw.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"The budgets in {path} cannot be read: {error}.", remedy="Let AVATAR_BUDGETS name a YAML file in UTF-8."
        ) from error
    if len(raw) > MOST_BYTES:
        raise InvalidInput(
            f"{path} is larger than {MOST_BYTES // 1024} KiB.",
            remedy="Limit each tenant or avatar by one budget with scope: tenant or scope: avatar.",
        )
    return _parsed(text, str(path))


def _parsed(text: str, source: str) -> object:
    import yaml

    try:
        for node in _nodes(yaml.compose(text, Loader=yaml.SafeLoader)):
            _no_key_twice(node, source)
            _plain_numbers(node, source)
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # ValueError: a date or number that looks like one and is none.
        raise InvalidInput(
            f"{source} is not YAML: {' '.join(str(error).split())[:300]}.", remedy="Correct it there."
        ) from error


def _nodes(root: Any) -> Iterator[Any]:
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node.value, list):
            waiting += [each for pair in node.value for each in (pair if isinstance(pair, tuple) else (pair,))]
            yield node


def _plain_numbers(node: Any, source: str) -> None:
    # YAML 1.1 takes 0100 for 64, and 1:30 for 90: such a limit would be silently another, too.
    for pair in node.value:
        for each in pair if isinstance(pair, tuple) else (pair,):
            if each.tag.endswith(":int") and not _NUMBER.fullmatch(each.value):
                raise InvalidInput(
                    f"{source}: line {each.start_mark.line + 1}: {shown(each.value)} is not a plain number.",
                    remedy="Write it with the digits 0 to 9 alone, without zeros in front.",
                )


def _no_key_twice(node: Any, source: str) -> None:
    # YAML lets the last one win: a limit written twice would be silently another.
    keys: set[str] = set()
    for pair in node.value:
        if not isinstance(pair, tuple) or not isinstance(pair[0].value, str):
            continue
        key = pair[0].value
        if key in keys:
            raise InvalidInput(
                f"{source}: line {pair[0].start_mark.line + 1}: {shown(key)} is written twice.",
                remedy="Keep the one that is meant.",
            )
        keys.add(key)
