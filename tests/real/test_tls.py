"""Clients that trust the mirror's CA pull over TLS, and others do not."""

from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from tests.standin import Hub, Image

from .containerd import Containerd
from .containers import Skopeo
from .engines import Engine
from .mirrors import COMMAND, shown
from .processes import CommandFailed, Process, environment, listens, needs, scratch

APP = "library/app"


@pytest.mark.parametrize("kind", [Containerd, Skopeo])
async def test_a_client_that_was_told_the_ca_pulls_over_tls(
    kind: Callable[..., Engine], hub: Hub, image: Image, port: int
) -> None:
    needs("containerd", "ctr", "skopeo")
    hub.add(image, APP, "1")
    authority, stranger = trustme.CA(), trustme.CA()
    with scratch() as folder:
        options: list[str | Path] = ["--listen", f"127.0.0.1:{port}", "--data-dir", folder / "data"]
        options += [*shown(authority, folder), "--upstream", f"docker.io={hub.url}"]
        mirror = Process([COMMAND, "serve", *options], environment(folder), folder / "log")
        try:
            mirror.until(lambda: listens(port))
            for name, signer in (("stranger", stranger), ("mirror", authority)):
                ca = folder / f"{name}.crt"
                signer.cert_pem.write_to_path(str(ca))
                (folder / name).mkdir()
                with kind(folder / name, port, ca=ca) as engine:
                    if signer is stranger:
                        with pytest.raises(CommandFailed):
                            await engine.pull(APP, "1")
                        assert not hub.pulls
                    else:
                        await engine.pull(APP, "1")
                        assert (await engine.held(APP, "1")).is_same(image)
        finally:
            assert mirror.stop() == 0
    assert hub.pulls == 1
