"""Publicity checks: whether a registry serves a repository to anonymous clients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Literal

import aiohttp

from mirror.oci import manifest, media, strict_json
from mirror.oci.digest import Digest
from mirror.oci.errors import Denied, ManifestUnknown, RegistryError, UpstreamFailure
from mirror.oci.names import Reference
from mirror.oci.paging import Paging
from mirror.upstream import responses
from mirror.upstream.client import RegistryClient
from mirror.upstream.telemetry import Observer


class PublicityAnswer(Enum):
    """The result of a publicity check."""

    LISTED = "public, with its list of tags"
    PUBLIC = "public"
    DENIED = "not public"
    MISSING = "the content does not exist, or is hidden"
    UNDECIDED = "undecided: no response, or no clear one"

    @property
    def yes(self) -> bool:
        """Whether the repository is public."""
        return self in (PublicityAnswer.LISTED, PublicityAnswer.PUBLIC)


@dataclass(frozen=True, slots=True)
class ProbedContent:
    """The content that a client requests from a repository."""

    kind: Literal["manifest", "blob"]
    reference: Reference


class PublicityCheck:
    """Publicity checks at one upstream: `anonymous_client` is without an account.

    `account_client` is the one with an account, if there is one.

    `counts` tells whether upstream may count a GET of a manifest as a pull: then HEAD must do.
    `observe` is told of each response to a question about content.
    """

    def __init__(
        self,
        anonymous_client: RegistryClient,
        account_client: RegistryClient | None,
        counts: Callable[[], bool],
        observe: Observer,
    ) -> None:
        self._anonymous_client = anonymous_client
        self._account_client = account_client
        self._counts = counts
        self._observe = observe

    def __repr__(self) -> str:
        return f"<PublicityCheck at {self._anonymous_client.origin.name}>"

    async def ask(self, name: str, wanted: ProbedContent | None) -> PublicityAnswer:
        """Request the tags, then the wanted content if necessary, with a new token.

        A list of tags proves that the repository is public, its absence nothing: some registries
        list tags for no client, and serve images to all. HEAD is a hint; a GET decides, unless it
        may cost a pull.
        """
        self._anonymous_client.forget(name)
        if await self._lists_tags(name):
            return PublicityAnswer.LISTED
        if wanted is None:
            return PublicityAnswer.UNDECIDED
        answer = await self._ask_about(self._anonymous_client, "HEAD", name, wanted)
        if answer.yes:
            return answer
        if wanted.kind == "blob":
            return await self._ask_about(self._anonymous_client, "GET", name, wanted)
        return answer if self._counts() else await self._get(name, wanted)

    async def hides(self, name: str, wanted: ProbedContent) -> bool:
        """Whether the account can read content that anonymous clients are told does not exist."""
        if self._account_client is None:
            return False
        return (await self._ask_about(self._account_client, "HEAD", name, wanted)).yes

    async def answers(self) -> bool:
        """Whether the registry and its token server answer at all, with or without the account."""
        for registry in filter(None, (self._anonymous_client, self._account_client)):
            try:
                if await registry.answers_root():
                    return True
            except RegistryError:
                continue
        return False

    async def _lists_tags(self, name: str) -> bool:
        """Request a page of tags; an error may have status 200, too."""
        try:
            page = await self._anonymous_client.get_page("tags", name, "tags/list", Paging(1))
            document = await strict_json.on_thread(strict_json.read, page.body)
        except (RegistryError, TimeoutError, ValueError):
            return False
        return isinstance(document.get("tags"), list)

    async def _get(self, name: str, wanted: ProbedContent) -> PublicityAnswer:
        """Fetch a manifest; it counts if its type is a manifest's, or its bytes prove it."""
        reference = wanted.reference
        try:
            got = await self._anonymous_client.get_manifest(
                name, reference, self._observe, retry_as=reference
            )
        except Denied:
            return PublicityAnswer.DENIED
        except ManifestUnknown:
            return PublicityAnswer.MISSING
        except UpstreamFailure:
            return PublicityAnswer.UNDECIDED
        media_type = got.descriptor.media_type
        # A client may have requested the digest of an error document.
        proven = isinstance(reference, Digest) and manifest.is_one(got.body, media_type)
        return (
            PublicityAnswer.PUBLIC
            if proven or media_type in media.KNOWN
            else PublicityAnswer.UNDECIDED
        )

    async def _ask_about(
        self,
        registry: RegistryClient,
        method: Literal["HEAD", "GET"],
        name: str,
        wanted: ProbedContent,
    ) -> PublicityAnswer:
        try:
            async with registry.answer(
                method, wanted.kind, name, wanted.reference, self._observe
            ) as response:
                return _read(response, wanted)
        except Denied:  # by the token server
            return PublicityAnswer.DENIED
        except UpstreamFailure:
            return PublicityAnswer.UNDECIDED


def _read(response: aiohttp.ClientResponse, wanted: ProbedContent) -> PublicityAnswer:
    """Interpret a response; a 200 counts only for content, not for a login page."""
    match response.status:
        case 401 | 403:
            return PublicityAnswer.DENIED
        case 404:
            return PublicityAnswer.MISSING
        case 200 if responses.is_content(response, wanted.kind, wanted.reference):
            return PublicityAnswer.PUBLIC
    return PublicityAnswer.UNDECIDED
