"""Compose files: the images of services, with variables as compose replaces them."""

from __future__ import annotations

from collections.abc import Mapping

from mirror.image_lists.found import ImageList
from mirror.image_lists.variables import Unset, substitute
from mirror.image_lists.yaml_nodes import Node, Table, Text
from mirror.oci.errors import shown

_KEYS = frozenset(
    {
        *("name", "version", "services", "networks", "volumes", "configs", "secrets"),
        *("include", "models"),
    }
)
_PULLED = frozenset({"always", "missing", "if_not_present", "daily", "weekly", "refresh"})


def is_compose(document: Node) -> bool:
    """Whether a document is a compose file: by its keys, and a service with an image or a build."""
    if not isinstance(document, Table):
        return False
    services = document.table("services")
    if services is None or any(
        key not in _KEYS and not key.startswith("x-") for key in document.pairs
    ):
        return False
    return any(
        isinstance(each, Table) and {"image", "build", "extends"} & each.pairs.keys()
        for each in services.pairs.values()
    )


def read_compose(document: Table, environment: Mapping[str, str], found: ImageList) -> None:
    """Add the images that `docker compose pull` would pull."""
    if include := document.pairs.get("include"):
        found.skip(include.line, "included files are skipped: `docker compose config` joins them")
    services = document.table("services")
    for name, service in services.pairs.items() if services else ():
        if isinstance(service, Table):
            _read_service(name, service, environment, found)


def _read_service(
    name: str, service: Table, environment: Mapping[str, str], found: ImageList
) -> None:
    image, policy = service.pairs.get("image"), service.text("pull_policy") or ""
    if not isinstance(image, Text):
        if "extends" in service.pairs:
            reason = "takes its image from another service: `docker compose config` joins them"
            found.skip(service.line, f"service {shown(name)} {reason}")
        return
    if policy in ("build", "never") or (
        "build" in service.pairs and policy.partition("_every_")[0] not in _PULLED | {"every"}
    ):
        found.skip(image.line, f"service {shown(name)} is built, not pulled")
        return
    try:
        text = substitute(image.text, environment)
        platform = substitute(service.text("platform") or "", environment)
    except Unset as error:
        found.skip(image.line, f"{shown(image.text)} is skipped: {error}")
        return
    found.add(text, image.line, platform or None)
