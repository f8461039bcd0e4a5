"""What an SDK type demands of JSON: the SDK itself takes anything, and gives None for what is not there."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel


def faults_of(kind: Any, value: Any, place: str = "$") -> Iterator[tuple[str, str]]:
    """Yield (place, what is wrong) for everything that a type requires and `value` lacks, at any depth."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return
    if origin is typing.Annotated:
        yield from faults_of(arguments[0], value, place)
    elif origin in (typing.Union, types.UnionType):
        # The SDK adds Any to every choice of words, so as to take new ones; the stand-in is to give known ones.
        known = [option for option in arguments if option is not Any]
        yield from min((list(faults_of(option, value, place)) for option in known), key=len)
    elif origin in (list, tuple, typing.Sequence):
        if not isinstance(value, list):
            yield place, f"no list: {value!r}"
        else:
            for index, item in enumerate(value):
                yield from faults_of(arguments[0], item, f"{place}[{index}]")
    elif origin is dict:
        if not isinstance(value, dict):
            yield place, f"no object: {value!r}"
        else:
            for name, item in value.items():
                yield from faults_of(arguments[1], item, f"{place}.{name}")
    elif origin is typing.Literal:
        if value not in arguments:
            yield place, f"none of {arguments}: {value!r}"
    elif isinstance(kind, type):
        yield from _faults_of_plain(kind, value, place)


def _faults_of_plain(kind: type, value: Any, place: str) -> Iterator[tuple[str, str]]:
    if issubclass(kind, BaseModel):
        if not isinstance(value, dict):
            yield place, f"no object for {kind.__name__}: {value!r}"
            return
        for name, field in kind.model_fields.items():
            key = field.alias or name
            if key in value:
                yield from faults_of(field.annotation, value[key], f"{place}.{key}")
            elif field.is_required():
                yield f"{place}.{key}", f"missing, and {kind.__name__} requires it"
    elif kind is float:
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            yield place, f"no number: {value!r}"
    elif kind is int:
        if not isinstance(value, int) or isinstance(value, bool):
            yield place, f"no integer: {value!r}"
    elif not isinstance(value, kind):
        yield place, f"not {kind.__name__}: {value!r}"


def required_places(kind: Any, value: Any, place: str = "$") -> Iterator[tuple[str, ...]]:
    """Yield the path of every required field that a value has, as (model's name, key, place)."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType, typing.Annotated):
        for option in arguments:
            if option is not Any and not list(faults_of(option, value)):
                yield from required_places(option, value, place)
    elif origin in (list, tuple) and isinstance(value, list):
        for index, item in enumerate(value):
            yield from required_places(arguments[0], item, f"{place}[{index}]")
    elif isinstance(kind, type) and issubclass(kind, BaseModel) and isinstance(value, dict):
        for name, field in kind.model_fields.items():
            key = field.alias or name
            if field.is_required():
                yield kind.__name__, key, place
            if key in value:
                yield from required_places(field.annotation, value[key], f"{place}.{key}")


def without(value: Any, place: str, key: str) -> Any:
    """Return a copy of JSON in which the object at `place` (as the functions above name it) lacks `key`."""
    import copy

    changed = copy.deepcopy(value)
    target = changed
    for step in place.replace("[", ".").replace("]", "").split(".")[1:]:
        target = target[int(step)] if isinstance(target, list) else target[step]
    del target[key]
    return changed
