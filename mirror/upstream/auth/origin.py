"""The origin of an upstream: its address, and the login there."""

from __future__ import annotations

from dataclasses import dataclass, field

from yarl import URL

from mirror.upstream.auth.credential_manager import CredentialManager
from mirror.upstream.auth.login import LoginPolicy


@dataclass(frozen=True, slots=True)
class Origin:
    """An upstream's address, and how to log in to it. `name` is its name in image references.

    Pulls are counted for the account `account_name`, which is empty if anonymous. `logs_in`: an
    account may be in use, so that success does not prove public access. `counts_pulls`: the
    upstream is known to have a pull limit, regardless of its headers. `repository_prefix` precedes
    every repository's name there: the project of a pull-through cache, at a registry with projects.
    """

    name: str
    url: URL
    credential_manager: CredentialManager
    login_policy: LoginPolicy = field(default_factory=LoginPolicy)
    account_name: str = ""
    logs_in: bool = False
    counts_pulls: bool = False
    repository_prefix: str = ""

    def named(self, repository: str) -> str:
        """Return a repository's name at this registry."""
        return (
            f"{self.repository_prefix}/{repository}"
            if self.repository_prefix and repository
            else repository
        )
