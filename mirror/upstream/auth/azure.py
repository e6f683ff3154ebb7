"""Azure's registries: credentials to be exchanged for a login (Azure/acr docs/AAD-OAuth.md)."""

from __future__ import annotations

import time
from dataclasses import replace

from mirror.upstream.auth.credentials import (
    Credentials,
    CredentialSource,
    CredentialsUnavailable,
    Everywhere,
    FoundCredentials,
    Kind,
)
from mirror.upstream.auth.token_exchange import claims
from mirror.upstream.auth.worker_thread import on_worker_thread

NOBODY = "00000000-0000-0000-0000-000000000000"  # the user name that accompanies a token
_NONE = "Azure gives no access token"
_SCOPE = "https://containerregistry.azure.net/.default"


def is_registry(host: str) -> bool:
    """Whether a host is an ACR registry."""
    return host.endswith((".azurecr.io", ".azurecr.cn", ".azurecr.us"))


class Azure(Everywhere):
    """A source that asks Azure's directory, as the environment, workload or machine."""

    async def read(self, _place: str) -> FoundCredentials:
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
            Credentials(NOBODY, token.token, "access"), max(token.expires_on - time.time(), 0)
        )


class Acr:
    """An account of ACR. With the all-zero user name, its password is a token to exchange."""

    def __init__(self, source: CredentialSource, host: str) -> None:
        self._source = source
        self._host = host

    def place(self, repository: str) -> str:
        """Return the place by the account's source."""
        return self._source.place(repository)

    async def read(self, place: str) -> FoundCredentials:
        """Read the account; raises CredentialsUnavailable."""
        found = await self._source.read(place)
        who = found.credentials
        if who.kind != "password" or who.username != NOBODY:
            return found
        # A refresh token is issued by the registry, for itself; the directory's token, for a
        # resource.
        said = claims(who.password)
        mine = said.get("grant_type") == "refresh_token" or said.get("aud") == self._host
        kind: Kind = "refresh" if mine or not said else "access"
        return replace(found, credentials=Credentials(NOBODY, who.password, kind))
