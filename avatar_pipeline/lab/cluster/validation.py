"""Bodies as the API server checks them: the OpenAPI types, then the rules that types cannot say.

Unknown fields are refused, as `fieldValidation=Strict` would; a typing error in a manifest is what a test is for.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.lab.cluster.quantities import parse_quantity
from avatar_pipeline.lab.cluster.refusals import Cause, Refusal, invalid
from avatar_pipeline.lab.cluster.selecting import LABEL_KEY, LABEL_VALUE

_DNS_LABEL = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
_DNS_NAME = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
_EFFECTS = ("", "NoSchedule", "PreferNoSchedule", "NoExecute")
_LABEL_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
    "and must start and end with an alphanumeric character, and be no more than 63 characters"
)


@functools.cache
def _validator(kind: str, api_version: str, version: str) -> Any:
    """Return the compiled JSON schema of a kind, made once a process: kubernetes-validate reads it for each body."""
    import jsonschema  # type: ignore[import-untyped]
    from kubernetes_validate import utils
    from referencing import Registry, Resource

    folder = f"kubernetes-json-schema/v{_bundled(version)}-local-strict"
    schema = utils.schema_contents(f"{folder}/{kind.lower()}-{api_version.replace('/', '-')}.json", version)
    definitions: Any = Resource.from_contents(_definitions(folder, version))
    registry = definitions @ Registry()
    return jsonschema.validators.Draft202012Validator(schema, registry=registry)


@functools.cache
def _definitions(folder: str, version: str) -> Any:
    from kubernetes_validate import utils

    return utils.schema_contents(f"{folder}/_definitions.json", version)


@functools.cache
def _bundled(version: str) -> str:
    from kubernetes_validate import utils

    known = utils.all_versions()
    wanted = [each for each in known if each.startswith(version)] if version else known
    if not wanted:
        raise InvalidInput(f"Kubernetes {version} has no bundled types.", remedy=f"Known are {', '.join(known)}.")
    return str(wanted[-1])


def server_version(version: str = "") -> str:
    """Return the version, such as `1.37.0`, whose types bodies are checked against."""
    return _bundled(version)


def check_types(body: Mapping[str, Any], kind: str, api_version: str, version: str = "") -> None:
    """Check a body against the OpenAPI types of its kind. Raises Refusal (400) at the first thing that does not fit."""
    if not isinstance(body, Mapping) or not body:
        raise Refusal(400, "BadRequest", f"the body of a {kind} must be a JSON object")
    found = body.get("kind") or kind, body.get("apiVersion") or api_version
    if found != (kind, api_version):
        raise Refusal(
            400, "BadRequest", f"the API version in the data ({found[1]}, {found[0]}) does not match the expected API "
            f"version ({api_version}, {kind})",
        )  # fmt: skip
    errors = sorted(
        _validator(kind, api_version, version).iter_errors(body), key=lambda error: list(map(str, error.path))
    )
    if errors:
        told = "; ".join(
            f"{'.'.join(map(str, error.path)) or 'body'}: {_shortly(error.message)}" for error in errors[:5]
        )
        raise Refusal(
            400, "BadRequest", f"{kind} in version {api_version.rpartition('/')[2]!r} cannot be handled: {told}"
        )


def _shortly(message: str) -> str:
    return message if len(message) <= 300 else f"{message[:140]} ... {message[-140:]}"


def check_values(body: Mapping[str, Any], kind: str) -> None:
    """Check what types cannot say. Raises Refusal (422) with every cause."""
    metadata = body["metadata"]
    causes = list(_metadata(metadata, kind))
    if kind == "Job":
        causes += _job(body["spec"])
    elif kind == "Pod":
        causes += _pod_spec(body["spec"], "spec")
    if causes:
        raise invalid(f"{kind}.batch" if kind == "Job" else kind, metadata.get("name", ""), causes)


def _metadata(metadata: Mapping[str, Any], kind: str) -> Iterator[Cause]:
    name = metadata.get("name", "")
    rule, most = (_DNS_LABEL, 63) if kind == "Job" else (_DNS_NAME, 253)
    if not rule.match(name) or len(name) > most:
        yield Cause(
            "metadata.name", f'Invalid value: "{name}": must be a lower case DNS name of at most {most} characters'
        )
    yield from _labels(metadata.get("labels"), "metadata.labels")
    for index, owner in enumerate(metadata.get("ownerReferences") or ()):
        for needed in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(needed):
                yield Cause(f"metadata.ownerReferences[{index}].{needed}", "Required value")


def _labels(labels: Mapping[str, str] | None, path: str) -> Iterator[Cause]:
    for key, value in (labels or {}).items():
        if not LABEL_KEY.match(key):
            yield Cause(path, f'Invalid value: "{key}": name part must be a valid label key')
        if value is not None and not LABEL_VALUE.match(value):
            yield Cause(path, f'Invalid value: "{value}": {_LABEL_RULE}')


def _job(spec: Mapping[str, Any]) -> Iterator[Cause]:
    for name in ("backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished", "parallelism", "completions"):
        if (spec.get(name) or 0) < 0:
            yield Cause(f"spec.{name}", f"Invalid value: {spec[name]}: must be greater than or equal to 0")
    if (spec.get("completions") or 1) > 1 or (spec.get("parallelism") or 1) > 1 or spec.get("suspend"):
        yield Cause("spec", "Unsupported value: this simulated cluster runs one pod a Job, and suspends none")
    template = spec["template"]
    yield from _labels((template.get("metadata") or {}).get("labels"), "spec.template.labels")
    pod = template.get("spec") or {}
    policy = pod.get("restartPolicy")
    if policy not in ("Never", "OnFailure"):
        yield Cause(
            "spec.template.spec.restartPolicy",
            f'Required value: valid values: "OnFailure", "Never" (found {policy or "Always"!r})',
            "FieldValueRequired",
        )
    yield from _pod_spec(pod, "spec.template.spec")
    rules = (spec.get("podFailurePolicy") or {}).get("rules") or []
    if rules and policy != "Never":
        yield Cause(
            "spec.template.spec.restartPolicy",
            f'Invalid value: "{policy}": only "Never" is supported when podFailurePolicy is specified',
        )
    for index, rule in enumerate(rules):
        yield from _failure_rule(rule, f"spec.podFailurePolicy.rules[{index}]", pod)


def _failure_rule(rule: Mapping[str, Any], path: str, pod: Mapping[str, Any]) -> Iterator[Cause]:
    if rule.get("action") not in ("FailJob", "Ignore", "Count"):
        yield Cause(
            f"{path}.action", f'Unsupported value: "{rule.get("action")}": supported: "Count", "FailJob", "Ignore"'
        )
    codes, conditions = rule.get("onExitCodes"), rule.get("onPodConditions")
    if bool(codes) == bool(conditions):
        yield Cause(path, "Invalid value: specifying one of OnExitCodes and OnPodConditions is required, not both")
    if codes:
        names = [each["name"] for each in [*pod.get("containers", ()), *(pod.get("initContainers") or ())]]
        if codes.get("containerName") and codes["containerName"] not in names:
            yield Cause(
                f"{path}.onExitCodes.containerName", f'Invalid value: "{codes["containerName"]}": no such container'
            )
        if codes.get("operator") not in ("In", "NotIn"):
            yield Cause(f"{path}.onExitCodes.operator", f'Unsupported value: "{codes.get("operator")}"')
        if codes.get("operator") == "In" and 0 in codes.get("values", ()):
            yield Cause(f"{path}.onExitCodes.values", "Invalid value: 0: must not be 0 for the In operator")
    for number, condition in enumerate(conditions or ()):
        if condition.get("status", "True") not in ("True", "False", "Unknown"):
            yield Cause(f"{path}.onPodConditions[{number}].status", f'Unsupported value: "{condition["status"]}"')


def _pod_spec(spec: Mapping[str, Any], path: str) -> Iterator[Cause]:
    containers = spec.get("containers") or []
    if not containers:
        yield Cause(f"{path}.containers", "Required value")
    for field in ("containers", "initContainers"):
        for index, container in enumerate(spec.get(field) or ()):
            yield from _container(container, f"{path}.{field}[{index}]")
    names = [each.get("name") for each in [*containers, *(spec.get("initContainers") or ())]]
    for name in sorted({str(name) for name in names if names.count(name) > 1}):
        yield Cause(f"{path}.containers", f'Duplicate value: "{name}"')
    if (spec.get("terminationGracePeriodSeconds") or 0) < 0:
        yield Cause(f"{path}.terminationGracePeriodSeconds", "Invalid value: must be greater than or equal to 0")
    for index, toleration in enumerate(spec.get("tolerations") or ()):
        yield from _toleration(toleration, f"{path}.tolerations[{index}]")
    yield from _labels(spec.get("nodeSelector"), f"{path}.nodeSelector")
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    terms = (required or {}).get("nodeSelectorTerms") or []
    if required is not None and not terms:
        yield Cause(f"{path}.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution", "Required value")
    preferred = affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or []
    for weighted in preferred:
        if not 1 <= weighted["weight"] <= 100:
            yield Cause(f"{path}.affinity", f"Invalid value: {weighted['weight']}: must be in the range 1-100")
    for term in [*terms, *(weighted["preference"] for weighted in preferred)]:
        for expression in term.get("matchExpressions") or ():
            yield from _expression(expression, f"{path}.affinity.nodeAffinity")


def _container(container: Mapping[str, Any], path: str) -> Iterator[Cause]:
    name = container.get("name") or ""
    if not _DNS_LABEL.match(name) or len(name) > 63:
        yield Cause(f"{path}.name", f'Invalid value: "{name}": must be a lower case DNS label of at most 63 characters')
    if not container.get("image"):
        yield Cause(f"{path}.image", "Required value")
    for variable in container.get("env") or ():
        if variable.get("value") and variable.get("valueFrom"):
            yield Cause(
                f"{path}.env[{variable['name']}].valueFrom",
                "Invalid value: may not be specified when value is not empty",
            )
    resources = container.get("resources") or {}
    amounts: dict[str, dict[str, Any]] = {}
    for side in ("limits", "requests"):
        amounts[side] = {}
        for resource, value in (resources.get(side) or {}).items():
            try:
                amounts[side][resource] = parse_quantity(value)
            except InvalidInput as error:
                yield Cause(f"{path}.resources.{side}[{resource}]", f'Invalid value: "{value}": {error.message}')
    for resource, amount in amounts["requests"].items():
        limit = amounts["limits"].get(resource)
        if limit is not None and amount > limit:
            yield Cause(f"{path}.resources.requests", f"Invalid value: must be less than or equal to {resource} limit")
        if "/" in resource and amount != limit:
            yield Cause(
                f"{path}.resources.limits", f"Required value: {resource} must be set for non overcommitable resources"
            )


def _toleration(toleration: Mapping[str, Any], path: str) -> Iterator[Cause]:
    operator = toleration.get("operator") or "Equal"
    if operator not in ("Equal", "Exists"):
        yield Cause(f"{path}.operator", f'Unsupported value: "{operator}"')
    if operator == "Exists" and toleration.get("value"):
        yield Cause(f"{path}.operator", "Invalid value: value must be empty when `operator` is 'Exists'")
    if not toleration.get("key") and operator != "Exists":
        yield Cause(f"{path}.operator", "Invalid value: operator must be Exists when `key` is empty")
    if (toleration.get("effect") or "") not in _EFFECTS:
        yield Cause(f"{path}.effect", f'Unsupported value: "{toleration["effect"]}"')
    if toleration.get("tolerationSeconds") is not None and toleration.get("effect") != "NoExecute":
        yield Cause(f"{path}.effect", "Invalid value: effect must be 'NoExecute' when `tolerationSeconds` is set")


def _expression(expression: Mapping[str, Any], path: str) -> Iterator[Cause]:
    operator, values = expression.get("operator"), expression.get("values") or []
    if not LABEL_KEY.match(expression.get("key") or ""):
        yield Cause(f"{path}.key", f'Invalid value: "{expression.get("key")}"')
    if operator in ("In", "NotIn") and not values:
        yield Cause(f"{path}.values", "Required value: must be specified when `operator` is 'In' or 'NotIn'")
    elif operator in ("Exists", "DoesNotExist") and values:
        yield Cause(f"{path}.values", "Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
    elif operator in ("Gt", "Lt") and len(values) != 1:
        yield Cause(f"{path}.values", "Required value: must be specified single value when `operator` is 'Lt' or 'Gt'")
    elif operator not in ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"):
        yield Cause(f"{path}.operator", f'Invalid value: "{operator}": not a valid selector operator')
