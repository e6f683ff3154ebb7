"""Any request, in any form, gets an answer that docs/openapi.yaml describes."""

from __future__ import annotations

import asyncio
import hashlib
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from schemathesis import APIOperation, BaseSchema, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from mirror.oci.errors import RegistryError
from tests.project.test_docs import errors
from tests.standin import Hub, Image, make_artifact, make_image, make_index
from tests.support.command import fetch, serving

DESCRIPTION = Path(__file__).parents[2] / "docs" / "openapi.yaml"
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
PATIENCE = 5  # seconds for an answer, in which a sound upstream is asked
METHODS = ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PURGE")
SLASHES = st.sampled_from(["/", "/", "/", "%2F"])  # in a name: as they should be, and not
REPOSITORY = "library/nginx"
Operation = APIOperation[Any, Any, Any, Any]
Asked = Case[Any]


def described() -> BaseSchema:
    """Read docs/openapi.yaml."""
    return schemathesis.openapi.from_path(DESCRIPTION)


@dataclass(frozen=True)
class Known:
    """The upstream's content: a made-up name mostly leads to a 404."""

    references: list[str]
    digests: list[str]

    def parameters(self) -> SearchStrategy[dict[str, str]]:
        """Names, references and digests for a path."""
        return st.fixed_dictionaries(
            {
                "name": st.sampled_from([REPOSITORY, "nginx", REPOSITORY, "library/none"]),
                "reference": st.sampled_from(self.references),
                "digest": st.sampled_from(self.digests),
            }
        )

    def headers(self) -> SearchStrategy[dict[str, str]]:
        """Headers of a client that has content, or a part of it."""
        etags = st.sampled_from(self.digests).map('"{}"'.format)
        ranges = st.sampled_from(["bytes=0-9", "bytes=9999999-"])
        return st.fixed_dictionaries({"If-None-Match": etags}) | st.fixed_dictionaries(
            {"Range": ranges}
        )


def stock(hub: Hub) -> tuple[Image, Known]:
    """Fill the hub: an image, an index that has it, and an artifact that refers to it."""
    image, tags = make_image(7, [300, 300_000]), ("latest", "1.25", "a")
    index, artifact = make_index([image]), make_artifact(8, image)
    hub.add(image, REPOSITORY, *tags)
    hub.add(index, REPOSITORY, "all")
    hub.add(artifact, REPOSITORY)
    manifests = [image.digest, index.digest, artifact.digest]
    return image, Known(
        [*tags, "all", *manifests], [image.digest, *(blob.digest for blob in image.blobs)]
    )


class Asking:
    """Sends made-up requests, and checks each answer. `statuses` are those of the answers."""

    def __init__(self, address: str, known: Known) -> None:
        self.statuses: set[int] = set()
        self._address = address
        self._known = known

    def all(self) -> None:
        """Ask for each described path, more often where it has more to vary."""
        with requests.Session() as session:
            session.trust_env = False  # no proxy stands before a loopback address
            for result in described().get_all_operations():
                assert isinstance(result, Ok)
                self._ask(session, result.ok())

    def _ask(self, session: requests.Session, operation: Operation) -> None:
        varied = "{" in operation.path
        modes = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE][: 2 if varied else 1]
        cases = st.one_of([operation.as_strategy(mode) for mode in modes])

        @settings(
            settings.get_profile("steady"),  # the profile does not reach this thread by itself
            max_examples=20 if varied else 3,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.generate],
        )
        @given(cases, self._known.parameters(), self._known.headers(), SLASHES)
        def ask(case: Asked, known: dict[str, str], more: dict[str, str], slash: str) -> None:
            self._send(session, case, slash)
            for name in known.keys() & case.path_parameters.keys():
                case.path_parameters[name] = known[name]
            case.query.pop("ns", None)
            case.headers.clear()
            case.headers.update(more)
            self._send(session, case, "/")

        ask()
        for method in METHODS:
            refuses(session.request(method, self._address + operation.path, timeout=PATIENCE))

    def _send(self, session: requests.Session, case: Asked, slash: str) -> None:
        """Send a request, a name's slashes as given, and check the answer."""
        request = case.as_transport_kwargs(self._address)
        request["url"] = request["url"].replace("%2F", slash)
        response = session.request(**request, timeout=PATIENCE, allow_redirects=False)
        case.validate_response(response, checks=CHECKS)
        proves(response)
        self.statuses.add(response.status_code)


def proves(response: requests.Response) -> None:
    """Check that a whole body has its digest."""
    digest = response.headers.get("Docker-Content-Digest")
    if digest and response.status_code == 200 and response.request.method == "GET":
        algorithm, _, encoded = digest.partition(":")
        assert hashlib.new(algorithm, response.content).hexdigest() == encoded


def refuses(response: requests.Response) -> None:
    """Check that a method that a mirror does not support is refused, with a document."""
    assert response.status_code == 405
    assert response.headers["Allow"] == "GET, HEAD"
    assert response.json()["errors"][0]["code"] == "UNSUPPORTED"


async def test_any_request_has_an_answer_that_is_described(hub: Hub, tmp_path: Path) -> None:
    image, known = stock(hub)
    async with serving(tmp_path, "--upstream", f"docker.io={hub.url}") as mirror:
        address = await mirror.address()
        asking = Asking(address, known)
        await asyncio.to_thread(asking.all)
        assert asking.statuses >= {200, 206, 304, 400, 404, 416}  # else little was asked
        blob = image.blobs[-1]
        url = f"{address}/v2/{REPOSITORY}/blobs/{blob.digest}"
        async with asyncio.timeout(1):
            assert await fetch(url) == (200, blob.read())
        mirror.send(signal.SIGTERM)
        ended = await mirror.ended()
        assert ended.code == 0
        assert "unexpected failure" not in ended.err + ended.out


def test_every_error_is_described_and_there_is_no_other() -> None:
    description = described().raw_schema
    documents = description["components"]["schemas"]["Errors"]["properties"]["errors"]
    codes = documents["items"]["properties"]["code"]["enum"]
    assert codes == sorted({error.code for error in errors(RegistryError)})
    statuses = {
        int(status)
        for path, item in description["paths"].items()
        for method in ("get", "head")
        for status in item.get(method, {"responses": {}})["responses"]
        if path.startswith("/v2/")
    }
    assert statuses - {200, 206, 304} == {error.status for error in errors(RegistryError)} - {405}
