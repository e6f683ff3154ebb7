"""The methods: what each `auth` makes of an account and of a challenge, and what it needs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

Auth = Literal[
    "auto", "anonymous", "basic", "bearer", "acr", "ecr", "ecr-public", "google", "azure"
]


@dataclass(frozen=True, slots=True)
class Method:
    """How to log in.

    An `account` that is configured is used, wanted, or of no use, but for one of `users`. `schemes`
    are the challenges that are answered; `eager` is Basic sent unasked. A cloud's method finds its
    account itself, and needs the `extra` that brings `module`.
    """

    account: Literal["used", "wanted", "of no use"] = "used"
    users: Collection[str] = ()
    schemes: Collection[str] = frozenset({"basic", "bearer"})
    eager: bool = False
    extra: str = ""
    module: str = ""

    @property
    def cloud(self) -> bool:
        """Whether it finds an account itself."""
        return bool(self.extra)

    def uses(self, username: str) -> bool:
        """Whether it has a use for this account."""
        return self.account != "of no use" or username in self.users


_KEY_USERS = ("_json_key", "_json_key_base64")  # whose password is a service account's key
_BASIC = frozenset({"basic"})
METHODS: Mapping[Auth, Method] = {
    "auto": Method(),
    "anonymous": Method("of no use"),
    "basic": Method("wanted", schemes=_BASIC, eager=True),
    "bearer": Method(schemes=frozenset({"bearer"})),
    "acr": Method("wanted"),
    "ecr": Method("of no use", schemes=_BASIC, eager=True, extra="aws", module="aiobotocore"),
    "ecr-public": Method("of no use", extra="aws", module="aiobotocore"),
    "google": Method("of no use", _KEY_USERS, extra="google", module="google.auth"),
    "azure": Method("of no use", extra="azure", module="azure.identity"),
}
