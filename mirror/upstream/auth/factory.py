"""The factory of logins: an upstream's credential source and login method, as configured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from yarl import URL

from mirror.oci.login_methods import METHODS, Auth, LoginMethod
from mirror.upstream.auth import aws, azure
from mirror.upstream.auth.aws import Aws
from mirror.upstream.auth.azure import Acr, Azure
from mirror.upstream.auth.credential_manager import CredentialManager
from mirror.upstream.auth.credentials import (
    ANONYMOUS,
    Credentials,
    CredentialSource,
    PasswordFile,
    StaticCredentials,
)
from mirror.upstream.auth.docker_config import DockerConfigFile
from mirror.upstream.auth.google import Google
from mirror.upstream.auth.login import LoginPolicy
from mirror.upstream.auth.origin import Origin


class ExtraMissing(Exception):
    """A login method needs packages that are not installed; the message has the command."""


@dataclass(frozen=True, slots=True)
class LoginSettings:
    """The configured login of one upstream, and the name of its account."""

    auth: Auth = "auto"
    account: Credentials = ANONYMOUS
    password_file: Path | None = None
    docker_config: Path | None = None
    realms: Sequence[str] = ()
    account_name: str = ""


def origin(name: str, url: URL, configured: LoginSettings) -> Origin:
    """Build an upstream's origin from its configuration.

    Raises ExtraMissing, and ValueError if docker_config cannot be used.
    """
    auth = detect(url, configured)
    method = METHODS[auth]
    _check_extra(auth, method)
    realms = frozenset(URL(realm).origin() for realm in configured.realms)
    login_policy = LoginPolicy(method.schemes, method.eager, realms)
    source = _source(name, url, auth, configured)
    logs_in = not isinstance(source, StaticCredentials) or bool(source.credentials)
    return Origin(
        name, url, CredentialManager(name, source), login_policy, configured.account_name, logs_in
    )


def anonymous_origin(origin: Origin) -> Origin:
    """Return the same upstream without an account."""
    credential_manager, login_policy = (
        CredentialManager(origin.name, StaticCredentials()),
        LoginPolicy(realms=origin.login_policy.realms),
    )
    return replace(
        origin,
        credential_manager=credential_manager,
        login_policy=login_policy,
        account_name="",
        logs_in=False,
    )


def detect(url: URL, configured: LoginSettings) -> Auth:
    """Return the method that "auto" means at this host; "auto" if the challenge can decide.

    ECR serves no anonymous client. Other clouds do, so their machine identities are used only if
    configured.
    """
    host = url.host or ""
    own = bool(configured.account.username or configured.docker_config)
    if configured.auth == "auto" and not own and aws.is_registry(host):
        return "ecr"
    if configured.auth == "auto" and own and azure.is_registry(host):
        return "acr"
    return configured.auth


def _check_extra(auth: Auth, method: LoginMethod) -> None:
    try:
        there = not method.module or find_spec(method.module) is not None
    except ModuleNotFoundError:  # the parent package is missing
        there = False
    if not there:
        raise ExtraMissing(
            f"auth is {auth!r}, which needs more packages: pip install 'mirror[{method.extra}]'"
        )


def _source(name: str, url: URL, auth: Auth, configured: LoginSettings) -> CredentialSource:
    host = url.host or ""
    match auth:
        case "anonymous":
            return StaticCredentials()
        case "ecr" | "ecr-public":
            return Aws(auth, host)
        case "azure":
            return Azure()
        case "google":
            key = METHODS[auth].uses(configured.account.username)
            return Google(_own(name, url, configured) if key else None)
        case "acr":
            return Acr(_own(name, url, configured), host)
    return _own(name, url, configured)


def _own(name: str, url: URL, configured: LoginSettings) -> CredentialSource:
    """Return the configured account's source, or an anonymous one."""
    if configured.docker_config is not None:
        address = url.host_subcomponent or ""
        if url.explicit_port:
            address = f"{address}:{url.explicit_port}"
        return DockerConfigFile(configured.docker_config, (address, name))
    if configured.password_file is not None:
        return PasswordFile(configured.account.username, configured.password_file)
    return StaticCredentials(configured.account)
