"""Any request to the API, in any form, gets an answer that its own description has."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import APIOperation, BaseSchema, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from mirror.console.api.endpoints import ENDPOINTS
from mirror.console.api.openapi import described
from tests.cli.test_moving_images import files_of, pack
from tests.project.test_docs import PROJECT
from tests.standin import Hub, make_image
from tests.support.command import serving

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
schemathesis.serializer.alias("application/x-tar", "application/octet-stream")
PATIENCE = 10  # seconds for an answer
TOKEN = "a-token-of-more-than-16"
APP = "docker.io/library/app"


def schema() -> BaseSchema:
    """Read the description that is served."""
    return schemathesis.openapi.from_dict(described())


class Asking:
    """Sends made-up requests, and checks each answer. `statuses` are those of the answers."""

    def __init__(self, address: str, images: list[str], archive: bytes) -> None:
        self.statuses: dict[str, set[int]] = {}
        self._address = f"{address}/api/v1"
        self._images = images
        self._archive = archive

    def all(self) -> None:
        """Ask for each path, with an operator's login and without one."""
        with requests.Session() as session:
            session.trust_env = False  # no proxy stands before a loopback address
            for result in schema().get_all_operations():
                assert isinstance(result, Ok)
                self._ask(session, result.ok())

    def _ask(self, session: requests.Session, operation: APIOperation[Any, Any, Any, Any]) -> None:
        modes = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]
        cases = st.one_of([operation.as_strategy(mode) for mode in modes])

        @settings(
            settings.get_profile("steady"),  # the profile does not reach this thread by itself
            max_examples=25,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.generate],
        )
        @given(cases, st.sampled_from([*self._images, None]), st.booleans())
        def ask(case: Case[Any], image: str | None, operator: bool) -> None:
            if image is not None and "image" in case.path_parameters:
                case.path_parameters["image"] = image
            if image is not None and "image" in case.query:
                case.query["image"] = [image]
                case.query.pop("platform", None)  # hardly one that is made up is valid
            if image is not None:
                case.query.pop("after", None)  # no row has a name that is made up
            if image is not None and isinstance(case.body, dict) and "images" in case.body:
                case.body["images"] = [image]
            rate = case.body.get("rate") if isinstance(case.body, dict) else None
            if isinstance(case.body, dict) and isinstance(rate, float):
                case.body["rate"] = rate * 10**6  # 21 bytes a second outlast any patience
            if image is not None and operation.path == "/import":
                case.body = self._archive
                case.query.pop("name", None)
            case.headers.pop("Authorization", None)  # wrong logins would soon be held off
            if operator:
                case.headers["Authorization"] = f"Bearer {TOKEN}"
            request = case.as_transport_kwargs(self._address)
            response = session.request(**request, timeout=PATIENCE, allow_redirects=False)
            case.validate_response(response, checks=CHECKS)
            key = f"{operation.method.upper()} {operation.path}"
            self.statuses.setdefault(key, set()).add(response.status_code)

        ask()


async def test_any_request_has_an_answer_that_is_described(hub: Hub, tmp_path: Path) -> None:
    image = make_image(7, [300, 30_000])
    hub.add(image, "library/app", "1", "2", "3", "4")
    flags = ("--upstream", f"docker.io={hub.url}", "--operators", "ci")
    clients = json.dumps({"ci": {"token": TOKEN}})
    async with serving(tmp_path, *flags, env={"MIRROR_CLIENTS": clients}) as mirror:
        address = await mirror.address()
        with requests.Session() as session:
            session.trust_env = False
            blobs = [f"blobs/{blob.digest}" for blob in image.blobs]
            for path in (*(f"manifests/{tag}" for tag in "1234"), *blobs):
                url = f"{address}/v2/library/app/{path}"
                await asyncio.to_thread(session.get, url, timeout=PATIENCE)
        archive = pack(tmp_path / "x.tar", files_of(make_image(8, [300]))).read_bytes()
        images = [f"{APP}:{tag}" for tag in "1234"] + [APP, "sha256:" + "a" * 64]
        asking = Asking(address, images, archive)
        await asyncio.to_thread(asking.all)
        mirror.send(signal.SIGTERM)
        ended = await mirror.ended()
        assert ended.code == 0
        assert "unexpected failure" not in ended.err + ended.out
    for endpoint in ENDPOINTS:
        statuses = asking.statuses[f"{endpoint.method} {endpoint.path}"]
        wanted = {200} | ({400} if endpoint.parameters else set())
        assert statuses >= wanted | (set() if endpoint.public else {401}), endpoint.path


def test_every_path_is_documented() -> None:
    page = (PROJECT / "docs" / "api.md").read_text()
    for endpoint in ENDPOINTS:
        path = endpoint.path.replace("{image}", "…" if endpoint.acts else "UPSTREAM/REPOSITORY")
        assert f"`{endpoint.method} {path}" in page, endpoint.path
        for name in (*endpoint.parameters,) if not endpoint.body else ():
            assert f"{name}=" in page, (endpoint.path, name)
