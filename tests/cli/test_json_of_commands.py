"""The objects of `--json` fit the schemas that the API serves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema

from mirror.console.api.openapi import described
from tests.standin import Hub, Image
from tests.support.command import MODULE, Ended, fetch, launched, serving

SCHEMAS: dict[str, Any] = described()["components"]["schemas"]
NGINX = "nginx:latest"
# Each command with its record. The last ones need a running mirror.
LOOKS = [
    (("status",), "Status"),
    (("du",), "Usage"),
    (("budget",), "Budgets"),
    (("ls",), "StoredImages"),
    (("show", NGINX), "ShownImage"),
    (("pin", NGINX), "Pinned"),
    (("unpin", NGINX), "Pinned"),
]
BESIDE = [(("refresh", NGINX), "Refreshed"), (("warm", "--dry-run", NGINX), "Warmed")]
LAST = (("purge", NGINX), "Purged")


def check(ended: Ended, record: str) -> None:
    """Fail unless the output is an object of this record's schema; its `kind` is left out."""
    told = json.loads(ended.out)
    schema = SCHEMAS[record]
    assert "kind" not in told
    told["kind"] = schema["properties"]["kind"]["const"]
    whole = {"$ref": f"#/components/schemas/{record}", "components": {"schemas": SCHEMAS}}
    jsonschema.Draft202012Validator(whole).validate(told)
    assert set(told) <= set(schema["properties"])


async def do(folder: Path, arguments: tuple[str, ...]) -> Ended:
    """Run a command to its end."""
    place = ("--json", "--data-dir", folder)
    async with launched(*arguments, *place, command=MODULE) as command:
        return await command.ended(within=60)


async def test_each_object_of_a_command_fits_the_schema_of_its_record(
    hub: Hub, image: Image, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    async with serving(folder, "--upstream", f"docker.io={hub.url}") as command:
        url = await command.address() + "/v2/library/nginx/"
        assert (await fetch(f"{url}manifests/latest"))[0] == 200
        for blob in image.blobs:
            assert (await fetch(f"{url}blobs/{blob.digest}"))[0] == 200
        for arguments, record in (*LOOKS, *BESIDE):
            check(await do(folder, arguments), record)
    for arguments, record in (*LOOKS, LAST):
        check(await do(folder, arguments), record)
