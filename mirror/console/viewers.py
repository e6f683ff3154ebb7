"""The viewers of the console: which of them may see names, and which may act."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import web

from mirror.console.problem import Problem, login_needed
from mirror.oci.errors import ClientTooFast, NotAllowed, Unauthorized
from mirror.web.auth.authenticator import Authenticator
from mirror.web.connections.trusted_proxies import TrustedProxies
from mirror.web.request_keys import IDENTITY

# A proxy hides its clients behind its own address, which may be a loopback one.
_HERE = ("127.0.0.1", "::1", "::ffff:127.0.0.1")
_FORWARDED = ("x-forwarded-", "forwarded", "x-real-ip", "via", "x-envoy-", "x-original-")


@dataclass(frozen=True, slots=True)
class Viewer:
    """The sender of a request to the console, and its `name` if it has logged in.

    Numbers are for all viewers. A `trusted` viewer may see the names in the configuration, a viewer
    that `sees_names` also those of images and clients, and a viewer that `acts` may change
    something. `operators` says whether any are configured.
    """

    address: str
    name: str | None
    trusted: bool
    sees_names: bool
    acts: bool
    operators: bool

    def need_trust(self) -> None:
        """Refuse a viewer that may not see the names in the configuration; raises Problem."""
        if not (self.trusted or self.sees_names):
            raise login_needed("this needs the login of a client of this mirror")

    def need_names(self) -> None:
        """Refuse a viewer that may not see names; raises Problem."""
        if self.sees_names:
            return
        if not self.operators:
            raise Problem(
                HTTPStatus.FORBIDDEN,
                "without the key operators, only clients on the mirror's own machine see names of "
                "images and clients",
            )
        raise self._no_operator()

    def need_act(self, command: str) -> None:
        """Refuse a viewer that may not act; raises Problem, which names the equal command."""
        if self.acts:
            return
        if not self.operators:
            raise Problem(
                HTTPStatus.FORBIDDEN,
                "actions need the key operators, which names the logins that may act; on the "
                f"mirror's machine, use the command: {command}",
            )
        raise self._no_operator()

    def _no_operator(self) -> Problem:
        if self.name is None:
            return login_needed("this needs the login of an operator")
        return Problem(HTTPStatus.FORBIDDEN, f"{self.name} is not an operator")


VIEWER = web.RequestKey("viewer", Viewer)  # of a request, once it is recognised


class Viewers:
    """Recognises viewers by their logins; `operators` are the names of the viewers that may act."""

    def __init__(
        self,
        authenticator: Authenticator,
        operators: Collection[str],
        trusted_proxies: TrustedProxies | None,
    ) -> None:
        self._authenticator = authenticator
        self._operators = frozenset(operators)
        self._trusted_proxies = trusted_proxies

    def __repr__(self) -> str:
        return f"<Viewers: {len(self._operators)} operators>"

    def change(self, operators: Collection[str]) -> None:
        """Replace the operators, after a reload."""
        self._operators = frozenset(operators)

    async def recognise(self, request: web.BaseRequest) -> Viewer:
        """Return the viewer that sends a request; raises Problem."""
        try:
            identity = await self._authenticator.recognise(request)
        except (Unauthorized, NotAllowed) as error:
            raise login_needed(error.message) from None
        except ClientTooFast as error:
            raise _too_fast(error) from None
        request[IDENTITY] = identity
        acts = identity.name in self._operators
        viewer = request[VIEWER] = Viewer(
            identity.address,
            identity.name,
            trusted=self._authenticator.trusts(identity),
            sees_names=acts if self._operators else self._is_near(request),
            acts=acts,
            operators=bool(self._operators),
        )
        return viewer

    def count(self, request: web.BaseRequest) -> None:
        """Count a request that is refused without a look at its login; raises Problem."""
        try:
            self._authenticator.look(request)
        except ClientTooFast as error:
            raise _too_fast(error) from None

    def _is_near(self, request: web.BaseRequest) -> bool:
        """Whether a request comes from this machine, and no proxy has passed it on.

        A proxy shows itself by being trusted, by a header, or by HTTP/1.0, which no browser speaks.
        """
        peername = request.transport and request.transport.get_extra_info("peername")
        peer = str(peername[0]) if peername else ""
        trusted = self._trusted_proxies is not None and self._trusted_proxies.trusts(peer)
        forwarded = any(name.lower().startswith(_FORWARDED) for name in request.headers)
        return peer in _HERE and not trusted and not forwarded and request.version >= (1, 1)


def _too_fast(error: ClientTooFast) -> Problem:
    return Problem(error.status, error.message, error.headers(), bare=True)
