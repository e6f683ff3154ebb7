"""The access policy: the rules of one upstream, and the words of their refusals. Pure."""

from __future__ import annotations

from functools import lru_cache

from mirror.identity.client import ClientIdentity, Private
from mirror.oci.names import Repository
from mirror.oci.patterns import Patterns


class AccessRules:
    """The access rules configured for one upstream; `deny` beats `allow`.

    `private` tells which clients may read the repositories that are not public.
    """

    def __init__(self, allow: Patterns, deny: Patterns, private: Private) -> None:
        self.allow = allow
        self.deny = deny
        self.private = private
        self.permits = lru_cache(maxsize=8192)(self._permits)

    def _permits(self, name: str) -> bool:
        """Whether a repository may be read at all."""
        return self.allow.match(name) and not self.deny.match(name)

    def trusts(self, identity: ClientIdentity) -> bool:
        """Whether a client may read private repositories, too."""
        if self.private == "authenticated":
            return identity.name is not None
        return self.private == "everyone"


def not_served(identity: ClientIdentity, repository: Repository, rules: AccessRules) -> str:
    """Return the refusal of a repository that the mirror does not serve.

    The patterns of `deny` are never named, those of `allow` not to a restricted anonymous client.
    """
    refused = f"this mirror does not serve {repository.name} of {repository.upstream}"
    restricted = identity.name is None and identity.allow is not None
    if restricted or rules.deny.match(repository.name):
        return refused
    return f"{refused}; it serves {rules.allow}"


def not_for(identity: ClientIdentity, repository: Repository) -> str:
    """Return the refusal of a repository that this client may not read."""
    if identity.name is None:
        return f"{repository.name} requires a login to this mirror"
    return f"{identity.name} may not read {repository.name}; it may read {identity.allow}"


def not_public(repository: Repository, rules: AccessRules) -> str:
    """Return the refusal of a repository that upstream does not serve to the public."""
    missing = (
        "a login to this mirror is missing"
        if rules.private == "authenticated"
        else "this mirror serves no private repositories"
    )
    return (
        f"{missing}: {repository.upstream} does not serve {repository.name} anonymously, "
        "as far as it could be asked; public repositories may be read"
    )
