"""Azure's registries: credentials to be exchanged for a login (Azure/acr docs/AAD-OAuth.md)."""

from __future__ import annotations

import time
from dataclasses import replace

from mirror.upstream.auth.credentials import (
    Credentials,
    CredentialSource,
    CredentialsUnavailable,
    FoundCredentials,
    Kind,
    RegistryWideSource,
)
from mirror.upstream.auth.token_exchange import claims
from mirror.upstream.auth.worker_thread import on_worker_thread

ZERO_GUID = "00000000-0000-0000-0000-000000000000"  # the user name that accompanies a token
_NONE = "Azure gives no access token"
_SCOPE = "https://containerregistry.azure.net/.default"


def is_registry(host: str) -> bool:
    """Whether a host is an ACR registry."""
    return host.endswith((".azurecr.io", ".azurecr.cn", ".azurecr.us"))


class Azure(RegistryWideSource):
    """A source that asks Azure's directory, as the environment, workload or machine."""

    async def read(self, _path: str) -> FoundCredentials:
        """Request an access token; raises CredentialsUnavailable."""
        return await on_worker_thread(self._read, "Azure")

    async def _read(self) -> FoundCredentials:
        from azure.core.exceptions import AzureError  # noqa: PLC0415 - an extra
        from azure.identity.aio import DefaultAzureCredential  # noqa: PLC0415

        try:
            async with DefaultAzureCredential(
                exclude_cli_credential=True,
                exclude_developer_cli_credential=True,
                exclude_powershell_credential=True,
                exclude_shared_token_cache_credential=True,
                exclude_visual_studio_code_credential=True,
            ) as identity:
                token = await identity.get_token(_SCOPE)
        except AzureError as error:
            raise CredentialsUnavailable(_NONE, error.message) from None
        except (OSError, ValueError) as error:  # the environment describes no identity
            raise CredentialsUnavailable(_NONE, str(error)) from None
        return FoundCredentials(
            Credentials(ZERO_GUID, token.token, "access"),
            max(token.expires_on - time.time(), 0),
        )


class Acr:
    """An account of ACR. With the all-zero user name, its password is a token to exchange."""

    def __init__(self, source: CredentialSource, host: str) -> None:
        self._source = source
        self._host = host

    def path(self, repository: str) -> str:
        """Return the place by the account's source."""
        return self._source.path(repository)

    async def read(self, path: str) -> FoundCredentials:
        """Read the account; raises CredentialsUnavailable."""
        found = await self._source.read(path)
        credentials = found.credentials
        if credentials.kind != "password" or credentials.username != ZERO_GUID:
            return found
        # A refresh token is issued by the registry, for itself; the directory's token, for a
        # resource.
        claimed = claims(credentials.password)
        mine = claimed.get("grant_type") == "refresh_token" or claimed.get("aud") == self._host
        kind: Kind = "refresh" if mine or not claimed else "access"
        return replace(found, credentials=Credentials(ZERO_GUID, credentials.password, kind))
