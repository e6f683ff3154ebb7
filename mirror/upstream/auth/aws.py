"""Amazon's registries: logins issued by AWS for its own credentials, valid for twelve hours.

ECR accepts one as Basic (GetAuthorizationToken of `ecr`, in the registry's region); ECR Public
exchanges one for bearer tokens (GetAuthorizationToken of `ecr-public`, in us-east-1 only).
"""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime
from typing import Any, Literal

from mirror.upstream.auth.credentials import (
    Credentials,
    CredentialsUnavailable,
    FoundCredentials,
    RegistryWideSource,
)
from mirror.upstream.auth.worker_thread import on_worker_thread

_HOST = re.compile(
    r"\d{12}\.dkr[.-]ecr(?:-fips)?\.(?P<region>[a-z0-9-]+)"
    r"\.(?:amazonaws\.com(?:\.cn)?|on\.aws|on\.amazonwebservices\.com\.cn)",
    re.ASCII,
)
_PUBLIC_REGION = "us-east-1"
Service = Literal["ecr", "ecr-public"]


def is_registry(host: str) -> bool:
    """Whether a host is an ECR registry."""
    return _HOST.fullmatch(host) is not None


class Aws(RegistryWideSource):
    """A source that asks AWS, with its credential chain: environment, profile, role, instance."""

    def __init__(self, service: Service, host: str) -> None:
        match = _HOST.fullmatch(host)
        self._service = service
        self._region = _PUBLIC_REGION if service == "ecr-public" else match and match["region"]

    async def read(self, _path: str) -> FoundCredentials:
        """Request a login; raises CredentialsUnavailable."""
        return await on_worker_thread(self._read, "AWS")

    async def _read(self) -> FoundCredentials:
        from aiobotocore.session import get_session  # noqa: PLC0415 - an extra
        from botocore.config import Config  # noqa: PLC0415
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

        config = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 2})
        client = get_session().create_client(self._service, self._region, config=config)
        try:
            async with client as service:
                answer = await service.get_authorization_token()
        except (BotoCoreError, ClientError) as error:
            words = f"AWS gives no login for {self._service}"
            raise CredentialsUnavailable(words, str(error)) from None
        return _found(answer["authorizationData"])


def _found(data: Any) -> FoundCredentials:  # noqa: ANN401 - a list for ECR, an object for ECR Public
    login = data[0] if isinstance(data, list) else data
    username, _, password = base64.b64decode(login["authorizationToken"]).decode().partition(":")
    life = (login["expiresAt"] - datetime.now(UTC)).total_seconds()
    return FoundCredentials(Credentials(username, password), max(life, 0))
