"""What a container is started with: its environment, command line and folder. Pure, but for the folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avatar_pipeline.lab.cluster.quantities import parse_quantity
from avatar_pipeline.lab.cluster.settings import Image

Sources = Mapping[str, Mapping[str, str]]

_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")
_SUBSCRIPT = re.compile(r"^(metadata\.(?:labels|annotations))\['(.+)'\]$")
# Reference format of images: lower-case path components, then a tag or a digest.
_IMAGE = re.compile(
    r"^(?:[A-Za-z0-9.-]+(?::\d+)?/)?[a-z0-9]+(?:[._/-]+[a-z0-9]+)*(?::[\w][\w.-]{0,127})?(?:@sha256:[0-9a-f]{64})?$"
)


class ConfigError(Exception):
    """A container refers to something that does not exist: CreateContainerConfigError."""


def is_image_name(name: str) -> bool:
    """Tell whether an image's name can be read at all."""
    return bool(_IMAGE.match(name))


def environment(
    container: Mapping[str, Any],
    pod: Mapping[str, Any],
    image: Image,
    *,
    given: Mapping[str, str],
    config_maps: Sources,
    secrets: Sources,
) -> dict[str, str]:
    """Return a container's environment: the image's, what the cluster gives, `envFrom`, then `env` in its order.

    Raises ConfigError for a config map, secret, key or field that is not there and not optional.
    """
    env = {"PATH": image.search_path(), "HOME": "/root", "HOSTNAME": pod["metadata"]["name"], **image.env, **given}
    if "HOME" not in image.env:
        env["HOME"] = str(Path.home())
    for source in container.get("envFrom") or ():
        kind, found = _source(source, "configMapRef", "secretRef", config_maps, secrets)
        for key, value in (found or {}).items():
            env[f"{source.get('prefix', '')}{key}"] = value
        if found is None and not source[kind].get("optional"):
            raise ConfigError(f'{_spoken(kind)} "{source[kind].get("name")}" not found')
    for variable in container.get("env") or ():
        stated = _value(variable, container, pod, config_maps, secrets)
        if stated is not None:
            env[variable["name"]] = expand(stated, env)
    return env


def _source(
    source: Mapping[str, Any], in_map: str, in_secret: str, config_maps: Sources, secrets: Sources
) -> tuple[str, Mapping[str, str] | None]:
    kind = in_map if in_map in source else in_secret
    return kind, (config_maps if kind == in_map else secrets).get(source[kind].get("name", ""))


def _spoken(kind: str) -> str:
    return "configmap" if kind.startswith("configMap") else "secret"


def _value(
    variable: Mapping[str, Any], container: Mapping[str, Any], pod: Mapping[str, Any], maps: Sources, secrets: Sources
) -> str | None:
    source = variable.get("valueFrom")
    if not source:
        return str(variable.get("value", ""))
    if field := source.get("fieldRef"):
        return field_of(pod, field["fieldPath"])
    if resource := source.get("resourceFieldRef"):
        side, _, name = resource["resource"].partition(".")
        amount = (container.get("resources") or {}).get(side, {}).get(name, "0")
        return str(int(-(-parse_quantity(amount) // parse_quantity(resource.get("divisor") or "1"))))
    kind, found = _source(source, "configMapKeyRef", "secretKeyRef", maps, secrets)
    reference = source[kind]
    if found is not None and reference["key"] in found:
        return str(found[reference["key"]])
    if reference.get("optional"):
        return None
    if found is None:
        raise ConfigError(f'{_spoken(kind)} "{reference.get("name")}" not found')
    raise ConfigError(f"couldn't find key {reference['key']} in {_spoken(kind)} {reference.get('name')}")


def field_of(pod: Mapping[str, Any], path: str) -> str:
    """Return a field of a pod as the downward API gives it. Raises ConfigError for a field that it does not give."""
    if match := _SUBSCRIPT.match(path):
        group = match.group(1).partition(".")[2]
        return str(pod["metadata"].get(group, {}).get(match.group(2), ""))
    fields = {f"metadata.{name}": pod["metadata"][name] for name in ("name", "namespace", "uid")}
    fields |= {f"spec.{name}": pod["spec"].get(name, "") for name in ("nodeName", "serviceAccountName")}
    fields |= dict.fromkeys(("status.hostIP", "status.podIP", "status.podIPs"), "127.0.0.1")
    if path not in fields:
        raise ConfigError(f"unsupported fieldPath: {path}")
    return str(fields[path])


def expand(text: str, env: Mapping[str, str]) -> str:
    """Replace `$(NAME)` by the variable, where there is one, and `$$` by `$`."""

    def replace(match: re.Match[str]) -> str:
        whole, name = str(match.group(0)), str(match.group(1))
        return "$" if whole == "$$" else env.get(name, whole)

    return _REFERENCE.sub(replace, text)


def command_line(container: Mapping[str, Any], image: Image, env: Mapping[str, str]) -> list[str]:
    """Return a container's command line: `command`, or the image's entrypoint, then `args`."""
    command = container.get("command") or image.entrypoint
    return [expand(part, env) for part in (*command, *(container.get("args") or ()))]


def folder(container: Mapping[str, Any], image: Image, own: Path) -> Path:
    """Return where a container starts: its workingDir where this machine has that, the image's, or one of its own."""
    wanted = container.get("workingDir")
    if wanted and Path(wanted).is_dir():
        return Path(wanted)
    if image.working_directory is not None:
        return Path(image.working_directory)
    own.mkdir(parents=True, exist_ok=True)
    return own
