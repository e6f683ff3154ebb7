"""A token server for docker-registry: signed JSON Web Tokens (RFC 7519, RFC 7518)."""

import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trustme
from aiohttp import hdrs, web
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils


class TokenServer:
    """Grants its only user all requested scopes, and other clients a token without rights."""

    def __init__(self, authority: trustme.CA, user: str, password: str) -> None:
        issued = authority.issue_cert("tokens.example")
        key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key = key
        pem = issued.cert_chain_pems[0].bytes().decode()
        self._chain = ["".join(pem.split("-----")[2].split())]
        self._basic = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        self.asked: list[tuple[str, bool]] = []

    async def give(self, request: web.Request) -> web.Response:
        """Issue a token for the requested scopes."""
        known = request.headers.get(hdrs.AUTHORIZATION) == self._basic
        scopes = request.query.getall("scope", [])
        self.asked += [(scope, known) for scope in scopes]
        access = [_access(scope) for scope in scopes] if known else []
        return web.json_response({"token": self._signed(access), "expires_in": 300})

    def _signed(self, access: list[dict[str, object]]) -> str:
        now = int(time.time())
        head = {"typ": "JWT", "alg": "ES256", "x5c": self._chain}
        body = {
            "iss": "tests", "aud": "plain", "sub": "robot", "jti": "one",
            "iat": now, "nbf": now - 5, "exp": now + 300, "access": access,
        }  # fmt: skip
        text = f"{_encoded(json.dumps(head).encode())}.{_encoded(json.dumps(body).encode())}"
        signature = self._key.sign(text.encode(), ec.ECDSA(hashes.SHA256()))
        r, s = utils.decode_dss_signature(signature)
        return f"{text}.{_encoded(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _access(scope: str) -> dict[str, object]:
    kind, name, actions = scope.split(":")
    return {"type": kind, "name": name, "actions": actions.split(",")}


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@asynccontextmanager
async def issuing(server: TokenServer) -> AsyncIterator[str]:
    """Run a token server; gives its origin."""
    app = web.Application()
    app.router.add_get("/token", server.give)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
