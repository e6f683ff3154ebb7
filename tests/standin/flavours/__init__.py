"""Flavours: one small token server for each way that registries have, and the clouds' own APIs.

The hub takes their tokens; each speaks as the exchange is documented, and no other way.
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
