"""The login methods: for each `auth`, its use of an account, its challenges, and its packages."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

Auth = Literal[
    "auto", "anonymous", "basic", "bearer", "acr", "ecr", "ecr-public", "google", "azure"
]


@dataclass(frozen=True, slots=True)
class LoginMethod:
    """A login method.

    A configured `account` is used, wanted, or of no use, except for one of `users`. `schemes` are
    the challenges to answer; `eager` sends Basic without one. A cloud's method finds its account
    itself, and needs the `extra` that installs `module`.
    """

    account: Literal["used", "wanted", "of no use"] = "used"
    users: Collection[str] = ()
    schemes: Collection[str] = frozenset({"basic", "bearer"})
    eager: bool = False
    extra: str = ""
    module: str = ""

    @property
    def cloud(self) -> bool:
        """Whether the method finds an account itself."""
        return bool(self.extra)

    def uses(self, username: str) -> bool:
        """Whether the method uses this account."""
        return self.account != "of no use" or username in self.users


_KEY_USERS = ("_json_key", "_json_key_base64")  # their password is a service account's key
_BASIC = frozenset({"basic"})
METHODS: Mapping[Auth, LoginMethod] = {
    "auto": LoginMethod(),
    "anonymous": LoginMethod("of no use"),
    "basic": LoginMethod("wanted", schemes=_BASIC, eager=True),
    "bearer": LoginMethod(schemes=frozenset({"bearer"})),
    "acr": LoginMethod("wanted"),
    "ecr": LoginMethod("of no use", schemes=_BASIC, eager=True, extra="aws", module="aiobotocore"),
    "ecr-public": LoginMethod("of no use", extra="aws", module="aiobotocore"),
    "google": LoginMethod("of no use", _KEY_USERS, extra="google", module="google.auth"),
    "azure": LoginMethod("of no use", extra="azure", module="azure.identity"),
}
