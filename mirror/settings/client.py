"""The keys of `[clients.NAME]`, about one client."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from mirror.settings.values import PatternList

_SHORTEST = 16  # characters; a shorter token can be guessed


class Client(BaseModel):
    """A client that logs in to the mirror."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token: SecretStr = Field(
        SecretStr(""), description="Its secret: a Bearer token, or its password."
    )
    allow: PatternList = Field(("**",), description="Repositories that it may read.")

    @field_validator("token")
    @classmethod
    def _hard_to_guess(cls, token: SecretStr) -> SecretStr:
        text = token.get_secret_value()
        printable = text.isascii() and text.isprintable() and " " not in text
        if text and (len(text) < _SHORTEST or not printable):
            raise ValueError(
                f"expected at least {_SHORTEST} printable characters without blanks, "
                "such as `openssl rand -hex 32` prints"
            )
        return token
