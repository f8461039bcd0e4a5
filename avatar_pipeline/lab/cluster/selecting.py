"""Selectors: labels as strings and as objects, fields, and node affinity terms."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from avatar_pipeline.lab.cluster.refusals import bad_request

Labels = Mapping[str, str]
Test = Callable[[Labels], bool]

_NAME = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_KEY = rf"(?:[a-z0-9](?:[-a-z0-9.]{{0,251}}[a-z0-9])?/)?{_NAME}"
LABEL_KEY = re.compile(rf"^{_KEY}$")
LABEL_VALUE = re.compile(rf"^(?:{_NAME})?$")

_SET = re.compile(rf"^({_KEY})\s+(in|notin)\s*\(([^)]*)\)$")
_EQUALITY = re.compile(rf"^({_KEY})\s*(==|=|!=)\s*((?:{_NAME})?)$")
_EXISTS = re.compile(rf"^(!?)\s*({_KEY})$")


def label_selector(text: str | None) -> Test:
    """Return the test that a `labelSelector` parameter describes. Raises Refusal (400) where it cannot be read."""
    terms = [_label_term(term.strip()) for term in re.split(r",(?![^(]*\))", text)] if text and text.strip() else []
    return lambda labels: all(term(labels) for term in terms)


def _label_term(term: str) -> Test:
    if match := _SET.match(term):
        key, operator, values = match.group(1), match.group(2), {value.strip() for value in match.group(3).split(",")}
        if operator == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if match := _EQUALITY.match(term):
        key, operator, value = match.groups()
        if operator == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if match := _EXISTS.match(term):
        absent, key = match.groups()
        return lambda labels: (key in labels) != bool(absent)
    raise bad_request(f"unable to parse requirement: {term!r} is not a label selector")


FIELDS: dict[str, frozenset[str]] = {
    "Pod": frozenset({
        "metadata.name", "metadata.namespace", "spec.nodeName", "spec.restartPolicy", "spec.schedulerName",
        "spec.serviceAccountName", "status.phase", "status.podIP", "status.nominatedNodeName",
    }),
    "Job": frozenset({"metadata.name", "metadata.namespace", "status.successful"}),
    "Node": frozenset({"metadata.name", "spec.unschedulable"}),
    "Namespace": frozenset({"metadata.name", "status.phase"}),
    "Event": frozenset({
        "metadata.name", "metadata.namespace", "involvedObject.kind", "involvedObject.namespace",
        "involvedObject.name", "involvedObject.uid", "involvedObject.apiVersion", "involvedObject.resourceVersion",
        "involvedObject.fieldPath", "regarding.kind", "regarding.namespace", "regarding.name", "regarding.uid",
        "reason", "reportingController", "source", "type",
    }),
}  # fmt: skip
"""The field labels that the API server knows, by kind."""


def field_selector(kind: str, text: str | None) -> Callable[[Mapping[str, Any]], bool]:
    """Return the test that a `fieldSelector` parameter describes. Raises Refusal (400) for a field it does not know."""
    terms: list[tuple[str, str, bool]] = []
    for term in filter(None, (part.strip() for part in (text or "").split(","))):
        match = re.match(r"^([^=!]+)(==|=|!=)(.*)$", term)
        if match is None:
            raise bad_request(f"invalid selector: {term!r}; can't understand {term!r}")
        path, operator, value = match.groups()
        if path not in FIELDS.get(kind, frozenset({"metadata.name", "metadata.namespace"})):
            raise bad_request(f'field label not supported: "{path}"')
        terms.append((path, value, operator != "!="))
    return lambda item: all((_field(item, path) == value) == wanted for path, value, wanted in terms)


def _field(item: Mapping[str, Any], path: str) -> str:
    found: Any = item
    if path.startswith("regarding.") and "involvedObject" in item:
        path = path.replace("regarding.", "involvedObject.", 1)
    if path == "status.successful":
        path = "status.succeeded"
    if path == "source":
        path = "source.component"
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    if isinstance(found, bool):
        return str(found).lower()
    return "" if found is None else str(found)


def _number(value: str | None) -> int | None:
    return int(value) if value is not None and re.fullmatch(r"-?\d+", value) else None


def matches_expression(expression: Mapping[str, Any], labels: Labels) -> bool:
    """Tell whether labels meet one requirement (`key`, `operator`, `values`) of a node or label selector."""
    key, operator, values = expression["key"], expression["operator"], expression.get("values") or []
    value = labels.get(key)
    if operator in ("Gt", "Lt"):
        have, limit = _number(value), _number(values[0] if values else None)
        return have is not None and limit is not None and (have > limit if operator == "Gt" else have < limit)
    held = {
        "In": value in values,
        "NotIn": value not in values,
        "Exists": key in labels,
        "DoesNotExist": key not in labels,
    }
    return held.get(operator, False)


def matches_label_selector(selector: Mapping[str, Any], labels: Labels) -> bool:
    """Tell whether labels meet a LabelSelector object (`matchLabels` and `matchExpressions`, all of them)."""
    wanted: Mapping[str, str] = selector.get("matchLabels") or {}
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        matches_expression(expression, labels) for expression in selector.get("matchExpressions") or ()
    )


def matches_node_terms(terms: Sequence[Mapping[str, Any]], name: str, labels: Labels) -> bool:
    """Tell whether a node meets any of several node selector terms; within a term everything must hold.

    A term without requirements matches nothing, as in Kubernetes.
    """
    return any(matches_node_term(term, name, labels) for term in terms)


def matches_node_term(term: Mapping[str, Any], name: str, labels: Labels) -> bool:
    """Tell whether a node meets one node selector term."""
    expressions, fields = term.get("matchExpressions") or [], term.get("matchFields") or []
    if not expressions and not fields:
        return False
    named = {"metadata.name": name}
    return all(matches_expression(each, labels) for each in expressions) and all(
        matches_expression(each, named) for each in fields
    )
