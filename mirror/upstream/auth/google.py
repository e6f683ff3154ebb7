"""Google's registries: access tokens of a service account, valid for about an hour."""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC, datetime
from functools import partial
from typing import Any

from mirror.oci import strict_json
from mirror.upstream.auth.credentials import (
    Credentials,
    CredentialSource,
    CredentialsUnavailable,
    FoundCredentials,
    RegistryWideSource,
)

_USER = "oauth2accesstoken"  # the user name that accompanies an access token
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_TIMEOUT = 10.0  # seconds for one request


class Google(RegistryWideSource):
    """A source that asks Google, as the service account of a key or of the machine.

    Without a key it uses google-auth's "application default": the file that
    GOOGLE_APPLICATION_CREDENTIALS names, or the metadata server.
    """

    def __init__(self, key: CredentialSource | None = None) -> None:
        self._key = key

    async def read(self, path: str) -> FoundCredentials:
        """Request an access token; raises CredentialsUnavailable."""
        key = None if self._key is None else (await self._key.read(path)).credentials
        return await asyncio.to_thread(_read, key)


def _read(key: Credentials | None) -> FoundCredentials:
    import google.auth  # noqa: PLC0415 - an extra
    from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415
    from google.auth.transport.requests import Request  # noqa: PLC0415
    from google.oauth2 import service_account  # noqa: PLC0415

    request: Any = partial(Request(), timeout=_TIMEOUT)
    account: Any
    try:
        if key is None:
            account, _ = google.auth.default(scopes=[_SCOPE], request=request)
        else:
            kind: Any = service_account.Credentials  # untyped
            account = kind.from_service_account_info(_key_of(key), scopes=[_SCOPE])
        account.refresh(request)
    except ValueError:  # not the exception's text: it may quote the key
        raise CredentialsUnavailable("the service account's key is invalid") from None
    except GoogleAuthError as error:
        raise CredentialsUnavailable("Google gives no access token", str(error)) from None
    life = (account.expiry.replace(tzinfo=UTC) - datetime.now(UTC)).total_seconds()
    source = "the machine's identity" if key is None else "a service account's key"
    return FoundCredentials(Credentials(_USER, account.token), max(life, 0), source)


def _key_of(given: Credentials) -> dict[str, Any]:
    """Parse a key; raises ValueError."""
    text = given.password
    if given.username.endswith("base64"):
        text = base64.b64decode(text).decode()
    return strict_json.read(text.encode())
