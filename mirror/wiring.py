"""The wiring of what settings describe: a part as it is configured, or a plain refusal."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from typing import Protocol, TypeAlias, TypeVar

from yarl import URL

from mirror import meaning
from mirror.cache.access import Access
from mirror.cache.budget import Budget
from mirror.cache.publicity import Publicity
from mirror.oci.names import HUB, Repository
from mirror.oci.patterns import Patterns
from mirror.settings import Address, ConfigurationError, Settings, Upstream
from mirror.store.catalogue import Catalogue
from mirror.upstream.answers import Answer
from mirror.upstream.auth.credentials import Credentials
from mirror.upstream.auth.origin import Origin
from mirror.upstream.auth.sources import Configured, ExtraMissing, nobodys, origin
from mirror.upstream.auth.tokens import Tokens
from mirror.upstream.inquiry import Inquiry, Wanted
from mirror.upstream.link import Link
from mirror.upstream.registry import Registry
from mirror.upstream.wire import Patience, Wire
from mirror.web.browsers import Browsers
from mirror.web.clients import Clients, Known
from mirror.web.connections import bound, listen
from mirror.web.fronts import Fronts
from mirror.web.htpasswd import Htpasswd, HtpasswdError
from mirror.web.rate import Rates
from mirror.web.tls import Certificate, Pem, TlsError

_log = logging.getLogger(__name__)

OnAnswer: TypeAlias = Callable[[Answer], None]
OnAccess: TypeAlias = Callable[[Repository, bool], None]


class Closable(Protocol):
    """A part that has something to stop."""

    async def close(self) -> None:
        """Stop it."""


P = TypeVar("P", bound=Closable)


def listeners(
    stack: AsyncExitStack, settings: Settings
) -> tuple[socket.socket, socket.socket | None]:
    """Listen for clients, and for what watches where that has an address of its own.

    Raises ConfigurationError where an address cannot be had.
    """
    patience, watched = settings.client_timeout, settings.listen_metrics
    listener = stack.enter_context(closing(_listener("listen", settings.listen, patience)))
    if watched is None:
        return listener, None
    return listener, stack.enter_context(closing(_listener("listen_metrics", watched, patience)))


def addresses(settings: Settings) -> Iterator[tuple[str, Address]]:
    """Yield where it listens, and the keys that say so."""
    yield "listen", settings.listen
    if settings.listen_metrics is not None:
        yield "listen_metrics", settings.listen_metrics


def try_address(key: str, address: Address) -> None:
    """See whether an address can be had, and leave it; raises ConfigurationError.

    Nobody listens there meanwhile, so that a daemon that starts may have it.
    """
    with _named(key, address):
        bound(*address).close()


def _listener(key: str, address: Address, patience: float) -> socket.socket:
    with _named(key, address):
        return listen(*address, patience)


@contextmanager
def _named(key: str, address: Address) -> Iterator[None]:
    """Say which key is meant where an address cannot be had."""
    try:
        yield
    except (OSError, UnicodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "no name of a host"
        reason = f"{cause}; another address or port is wanted"
        raise ConfigurationError(f"{key} is '{address}': {reason}") from None


def certificate(settings: Settings) -> Certificate | None:
    """Say what TLS is served with, if it is; raises ConfigurationError."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    try:
        return Certificate(Pem(settings.tls_cert, settings.tls_key, settings.client_ca))
    except TlsError as error:
        value = getattr(settings, error.key)
        raise ConfigurationError(f"{error.key} is {str(value)!r}: {error}") from None


def origin_of(name: str, upstream: Upstream) -> Origin:
    """Say how an upstream is asked; raises ConfigurationError."""
    try:
        account = Credentials(upstream.username, meaning.secret(upstream))
    except ConfigurationError as error:
        raise ConfigurationError(f"upstreams.{name}.{error}") from None
    files = (upstream.password_file, upstream.docker_config)
    configured = Configured(upstream.auth, account, *files, upstream.realms, upstream.whose)
    try:
        found = origin(name, URL(upstream.url), configured)
    except (ExtraMissing, ValueError) as error:
        raise ConfigurationError(f"upstreams.{name}: {error}") from None
    return replace(
        found,
        logs_in=found.logs_in or upstream.client_cert is not None,
        counts_pulls=name == HUB or upstream.pull_limit is not None,
        prefix=upstream.repository_prefix,
    )


class Reach:
    """Every upstream as it is configured, with connections and tokens of its own.

    `origins` say how each is asked; `open` and `anyone` are entered into `stack`, which ends them.
    """

    def __init__(self, settings: Settings) -> None:
        self.origins = [origin_of(name, each) for name, each in settings.upstreams.items()]
        self._links = {name: link(name, each) for name, each in settings.upstreams.items()}
        self._tell_proxies(settings)
        self._patience = Patience(
            settings.connect_timeout,
            settings.silence_timeout,
            settings.answer_timeout,
            settings.resume_timeout,
        )

    def __repr__(self) -> str:
        return f"<Reach: {len(self.origins)} upstreams>"

    @property
    def accounts(self) -> frozenset[str]:
        """The names of those that know us."""
        return frozenset(each.name for each in self.origins if each.logs_in)

    def _tell_proxies(self, settings: Settings) -> None:
        """Tell of proxies that nobody has written into the configuration."""
        for each in self.origins:
            proxy = self._links[each.name].proxies.of(each.url)
            if proxy is not None and settings.upstreams[each.name].proxy is None:
                bare = proxy.with_user(None)
                _log.info("%s is reached through %s, the environment's proxy", each.name, bare)

    async def open(
        self, stack: AsyncExitStack, on_answer: OnAnswer, on_access: OnAccess
    ) -> dict[str, Registry]:
        """Return each as it is pulled from."""
        return {
            each.name: await self._registry(
                stack, each, self._links[each.name], on_answer, _of(each.name, on_access)
            )
            for each in self.origins
        }

    async def anyone(self, stack: AsyncExitStack, on_answer: OnAnswer) -> dict[str, Registry]:
        """Return those that know us as they are to those they do not know."""
        return {
            each.name: await self._registry(
                stack, nobodys(each), self._links[each.name].as_nobody(), on_answer, lambda *_: None
            )
            for each in self.origins
            if each.logs_in
        }

    async def _registry(
        self,
        stack: AsyncExitStack,
        origin: Origin,
        link: Link,
        on_answer: OnAnswer,
        on_access: Callable[[str, bool], None],
    ) -> Registry:
        wire = await stack.enter_async_context(Wire(origin.url, self._patience, link=link))
        tokens = closed(stack, Tokens(wire, on_answer))
        return closed(stack, Registry(origin, wire, tokens, on_answer, on_access))


def _of(upstream: str, on_access: OnAccess) -> Callable[[str, bool], None]:
    return lambda name, granted: on_access(Repository(upstream, name), granted)


def access(
    settings: Settings,
    registries: Mapping[str, Registry],
    strangers: Mapping[str, Registry],
    publicity: Publicity,
    budget: Budget,
    catalogue: Catalogue,
) -> Access:
    """Return the door, with every upstream as it is asked who may read its repositories."""
    inquiries = {
        name: Inquiry(
            strangers.get(name, registry),
            registry if name in strangers else None,
            partial(budget.counts, name),
        )
        for name, registry in registries.items()
    }
    rules = {name: meaning.rules(each) for name, each in settings.upstreams.items()}
    kept = partial(_kept, catalogue)
    return Access(rules, inquiries, publicity, settings.stale_after, kept)


def _kept(catalogue: Catalogue, repository: Repository, wanted: Wanted | None) -> Wanted | None:
    """Name something that is kept of a repository, beside what is wanted."""
    digest = catalogue.any_of(repository, None if wanted is None else wanted.reference)
    entry = None if digest is None else catalogue.get(digest)
    if digest is None or entry is None:
        return None
    return Wanted("blob" if entry.media_type is None else "manifest", digest)


def link(name: str, upstream: Upstream) -> Link:
    """Say how an upstream is reached; raises ConfigurationError."""
    try:
        return meaning.link(upstream)
    except ConfigurationError as error:
        raise ConfigurationError(f"upstreams.{name}.{error}") from None


def users(settings: Settings) -> Htpasswd | None:
    """Say who logs in with a password, if that is configured; raises ConfigurationError."""
    try:
        return Htpasswd(settings.htpasswd) if settings.htpasswd else None
    except HtpasswdError as error:
        raise ConfigurationError(f"htpasswd is '{settings.htpasswd}': {error}") from None


def clients(stack: AsyncExitStack, settings: Settings) -> Clients:
    """Say who may log in; raises ConfigurationError."""
    known = {
        name: Known(each.token.get_secret_value(), Patterns(each.allow))
        for name, each in settings.clients.items()
    }
    with_passwords = users(settings)
    if with_passwords is not None:
        stack.push_async_callback(with_passwords.close)
    return Clients(
        known,
        with_passwords,
        Rates(settings.client_rate),
        anonymous=None if "**" in settings.anonymous else Patterns(settings.anonymous),
        challenge=settings.challenge,
        browsers=_browsers(settings, strict=bool(settings.host_names)),
    )


def fronts(settings: Settings) -> Fronts | None:
    """Say which proxies are believed, if any are."""
    if not settings.trusted_proxies:
        return None
    return Fronts(settings.trusted_proxies, preambles=settings.proxy_protocol)


def watchers_browsers(settings: Settings) -> Browsers:
    """Say which browsers may watch: what else does has names of its own for the mirror."""
    return _browsers(settings, strict=False)


def _browsers(settings: Settings, *, strict: bool) -> Browsers:
    return Browsers({*settings.host_names, *settings.hosts()}, strict=strict)


def closed(stack: AsyncExitStack, part: P) -> P:
    """Have a part closed at the end; returns it."""
    stack.push_async_callback(part.close)
    return part
