"""Flavours: one small token server for each kind of registry, and the clouds' APIs.

The hub accepts their tokens; each speaks just the documented exchange.
"""

from .clouds import AzureIdentity, EcrPublicApi, GoogleAccounts
from .registries import (
    Acr,
    EcrPublic,
    Ghcr,
    GitLab,
    GoogleRegistry,
    Harbor,
    Nexus,
    OAuth,
    Quay,
)
from .server import Asked, Flavour, Refused, Server, jwt

__all__ = [
    "Acr",
    "Asked",
    "AzureIdentity",
    "EcrPublic",
    "EcrPublicApi",
    "Flavour",
    "Ghcr",
    "GitLab",
    "GoogleAccounts",
    "GoogleRegistry",
    "Harbor",
    "Nexus",
    "OAuth",
    "Quay",
    "Refused",
    "Server",
    "jwt",
]
