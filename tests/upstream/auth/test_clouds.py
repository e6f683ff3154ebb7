"""The clouds' registries are pulled from with the machine's own identity, and with keys.

AWS is moto's server, where it has the call; the rest are stand-ins of the documented endpoints.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from yarl import URL

from mirror.upstream.auth import aws, azure
from mirror.upstream.auth.credential_manager import CredentialManager
from mirror.upstream.auth.credentials import Credentials, CredentialsUnavailable, StaticCredentials
from mirror.upstream.auth.factory import LoginSettings, detect
from mirror.upstream.auth.google import Google
from tests.standin import Hub, Image
from tests.standin.flavours import (
    Acr,
    AzureIdentity,
    EcrPublic,
    EcrPublicApi,
    GoogleAccounts,
    GoogleRegistry,
)
from tests.support.accounts import upstream
from tests.support.command import NOBODY, launched, serve_to_the_end
from tests.support.mirror import Run

REPOSITORY = "library/nginx"
AWS = {
    "AWS_ACCESS_KEY_ID": "AKIATEST",
    "AWS_SECRET_ACCESS_KEY": "s3cret-word",
    "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}


@pytest.fixture(autouse=True)
def _no_identity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the tests from this machine's identity, and from all hosts beyond the loopback."""
    for name, value in AWS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("GCE_METADATA_HOST", "127.0.0.1:1")
    monkeypatch.setenv("NO_GCE_CHECK", "false")
    monkeypatch.setenv("IDENTITY_ENDPOINT", "http://127.0.0.1:1/")
    monkeypatch.setenv("IDENTITY_HEADER", AzureIdentity.header)
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "AZURE_CLIENT_ID", "AZURE_TENANT_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def private(hub: Hub, image: Image) -> Image:
    """An image that needs an account."""
    hub.make_private(REPOSITORY, "AWS", "oauth2accesstoken", "identity")
    return image


# Amazon


@pytest.fixture
async def moto() -> AsyncIterator[str]:
    """Run moto as AWS; gives its address."""
    command = (sys.executable, "-m", "moto.server")
    async with launched("-H", "127.0.0.1", "-p", "0", command=command) as server:
        await server.says("Running on http://", within=60)
        [address] = re.findall(r"Running on (http://\S+)", server.err + server.out)
        yield address


async def test_ecr_is_pulled_from_with_the_login_that_aws_gives(
    hub: Hub, run: Run, private: Image, moto: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto)
    hub.terms.auth = "basic"
    hub.terms.users = {"AWS": "123456789012-auth-token"}
    async with run(upstreams=upstream(hub, auth="ecr")) as mirror:
        await mirror.pull(REPOSITORY, "latest", private)
    assert hub.count(status=401) == 0


async def test_ecr_public_is_pulled_from_with_tokens_for_the_login_of_aws(
    hub: Hub, run: Run, private: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with EcrPublicApi() as api, EcrPublic(hub, {"AWS": api.password}) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", api.url)
        async with run(upstreams=upstream(hub, auth="ecr-public")) as mirror:
            await mirror.pull(REPOSITORY, "latest", private)
        assert len(api.asked) == 1
        assert server.asks("GET") == 1


async def test_awss_login_is_renewed_before_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    async with EcrPublicApi() as api:
        monkeypatch.setenv("AWS_ENDPOINT_URL", api.url)
        account = CredentialManager("public.ecr.aws", aws.Aws("ecr-public", ""), lambda: now)

        async def show(credentials: Credentials) -> str:
            return credentials.password

        assert await account.use(REPOSITORY, show) == api.password
        api.password, now = "another", 9 * 3600
        assert await account.use(REPOSITORY, show) != "another"
        now = 10 * 3600
        assert await account.use(REPOSITORY, show) == "another"


async def test_aws_that_gives_no_login_is_a_503_that_says_so(
    hub: Hub, run: Run, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    async with run(upstreams=upstream(hub, auth="ecr")) as mirror:
        got = await mirror.manifest(REPOSITORY, "latest")
    assert (got.status, b"AWS gives no login" in got.body) == (503, True)


@pytest.mark.parametrize(
    ("host", "registry"),
    [
        ("123456789012.dkr.ecr.eu-central-1.amazonaws.com", True),
        ("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", True),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", True),
        ("123456789012.dkr-ecr.eu-central-1.on.aws", True),
        ("public.ecr.aws", False),
        ("123456789012.dkr.ecr.eu-central-1.amazonaws.com.evil.example", False),
    ],
)
def test_ecrs_hosts_are_known_by_their_names(host: str, registry: bool) -> None:
    assert aws.is_registry(host) is registry
    detected = detect(URL(f"https://{host}"), LoginSettings())
    assert detected == ("ecr" if registry else "auto")


def test_azures_hosts_are_known_and_no_identity_is_used_unasked() -> None:
    registry = URL("https://example.azurecr.io")
    account = LoginSettings(account=Credentials("robot", "word"))
    assert detect(registry, account) == "acr"
    assert detect(registry, LoginSettings()) == "auto"
    assert detect(URL("https://europe-docker.pkg.dev"), LoginSettings()) == "auto"


# Google


def key(token_uri: str) -> str:
    """Make the key of a service account."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return json.dumps(
        {
            "type": "service_account",
            "project_id": "project",
            "private_key_id": "1",
            "private_key": pem.decode(),
            "client_email": "robot@project",
            "token_uri": token_uri,
        }
    )


async def test_googles_metadata_server_gives_access_tokens(
    hub: Hub, run: Run, private: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        GoogleAccounts() as accounts,
        GoogleRegistry(hub, {"oauth2accesstoken": accounts.access_token}),
    ):
        address = accounts.url.removeprefix("http://")
        monkeypatch.setenv("GCE_METADATA_HOST", address)
        monkeypatch.setenv("GCE_METADATA_IP", address)
        async with run(upstreams=upstream(hub, auth="google")) as mirror:
            await mirror.pull(REPOSITORY, "latest", private)
        assert accounts.asked


@pytest.mark.parametrize(
    "user", ["_json_key", "_json_key_base64", "GOOGLE_APPLICATION_CREDENTIALS"]
)
async def test_a_service_accounts_key_gives_access_tokens_and_goes_nowhere(
    hub: Hub, run: Run, private: Image, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, user: str
) -> None:
    async with (
        GoogleAccounts() as accounts,
        GoogleRegistry(hub, {"oauth2accesstoken": accounts.access_token}) as server,
    ):
        word = key(accounts.url + "/token")
        encoded = base64.b64encode(word.encode()).decode()
        file = tmp_path / "key.json"
        file.write_text(encoded if user.endswith("64") else word)
        keys = {"auth": "google"}
        if user.startswith("_"):
            keys |= {"username": user, "password_file": str(file)}
        else:
            monkeypatch.setenv(user, str(file))
        async with run(upstreams=upstream(hub, **keys)) as mirror:
            await mirror.pull(REPOSITORY, "latest", private)
        [asked] = accounts.asked
        assert (asked.method, asked.path) == ("POST", "/token")
        assert server.asks("GET") == 1


async def test_a_key_that_is_none_is_not_repeated() -> None:
    for text in ("s3cret-word", '{"private_key": "s3cret-word"}', "null", '["s3cret-word"]'):
        source = Google(StaticCredentials(Credentials("_json_key", text)))
        with pytest.raises(CredentialsUnavailable, match="key is invalid") as caught:
            await source.read("")
        assert "s3cret" not in str(caught.value) + caught.value.cause


async def test_google_that_gives_no_token_is_a_503_that_says_so(
    hub: Hub, run: Run, image: Image, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "key.json"
    file.write_text(key("http://127.0.0.1:1/token"))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    async with run(upstreams=upstream(hub, auth="google")) as mirror:
        got = await mirror.manifest(REPOSITORY, "latest")
    assert (got.status, b"Google gives no access token" in got.body) == (503, True)


# Azure


async def test_an_azure_identity_is_exchanged_for_refresh_and_access_tokens(
    hub: Hub, run: Run, private: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AzureIdentity() as identity, Acr(hub) as server:
        monkeypatch.setenv("IDENTITY_ENDPOINT", identity.url + "/msi/token")
        server.directory["identity"] = identity.access_token
        async with run(upstreams=upstream(hub, auth="azure")) as mirror:
            await mirror.pull(REPOSITORY, "latest", private)
        assert server.asks("POST", "/oauth2/exchange") == 1
        assert server.asks("POST") == 1
        assert [asked.query["resource"] for asked in identity.asked] == [
            "https://containerregistry.azure.net"
        ]


async def test_azure_that_gives_no_token_is_said() -> None:
    with pytest.raises(CredentialsUnavailable, match="Azure gives no access token"):
        await azure.Azure().read("")


@pytest.mark.parametrize(
    "identity",
    [
        {"AZURE_TENANT_ID": "no tenant!", "AZURE_CLIENT_SECRET": "s3cret-word"},
        {"AZURE_TENANT_ID": "tenant", "AZURE_CLIENT_CERTIFICATE_PATH": "/nowhere/key.pem"},
    ],
)
async def test_an_identity_that_azure_cannot_have_is_said(
    monkeypatch: pytest.MonkeyPatch, identity: dict[str, str]
) -> None:
    for name, value in {"AZURE_CLIENT_ID": "robot", **identity}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(CredentialsUnavailable, match="Azure gives no access token") as caught:
        await azure.Azure().read("")
    assert "tenant" in caught.value.cause or "/nowhere" in caught.value.cause
    assert "s3cret" not in caught.value.cause


# Extras


@pytest.mark.parametrize(
    ("auth", "extra", "module"),
    [
        ("ecr", "aws", "aiobotocore"),
        ("ecr-public", "aws", "aiobotocore"),
        ("google", "google", "google.auth"),
        ("azure", "azure", "azure.identity"),
    ],
)
async def test_without_its_extra_the_mirror_says_at_the_start_what_to_install(
    tmp_path: Path, auth: str, extra: str, module: str
) -> None:
    hidden = f"import sys; sys.modules[{module!r}] = None"
    (tmp_path / "sitecustomize.py").write_text(hidden)
    env = {"PYTHONPATH": str(tmp_path), "MIRROR_UPSTREAMS__DOCKER_IO__AUTH": auth}
    ended = await serve_to_the_end("--upstream", NOBODY, "--data-dir", tmp_path / "data", env=env)
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert f"pip install 'mirror[{extra}]'" in ended.err
    assert "docker.io" in ended.err


def test_a_library_that_is_not_used_is_not_imported() -> None:
    """The clouds' libraries take tens of megabytes."""
    program = "import mirror.app.daemon, sys; print(*sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = set(ran.stdout.split())
    assert "mirror.upstream.auth.factory" in loaded
    assert not loaded & {"aiobotocore", "botocore", "google.auth", "azure.identity", "requests"}
