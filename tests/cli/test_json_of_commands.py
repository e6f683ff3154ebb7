"""The objects of `--json` fit the schemas that the API serves."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import jsonschema

from mirror.cli.parser import COMMANDS, Parser, module_name
from mirror.console.api.openapi import described
from mirror.util.units import human
from tests.standin import Hub, Image
from tests.support.command import MODULE, Ended, fetch, launched, serving
from tests.support.mirror import Run

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
BESIDE = [
    (("refresh", NGINX), "Refreshed"),
    (("warm", "--dry-run", NGINX), "Warmed"),
]
UPKEEP = [(("gc", "--dry-run"), "Collected"), (("verify",), "Verified"), (("reload",), "Reloaded")]
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


async def test_each_object_of_the_upkeep_fits_the_schema_of_its_record(
    hub: Hub, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    async with serving(folder, "--upstream", f"docker.io={hub.url}") as command:
        await command.address()
        for arguments, record in UPKEEP:
            check(await do(folder, arguments), record)


def test_each_command_that_prints_a_result_has_json() -> None:
    texts = {"serve", "client-config", "completion", "healthcheck"}
    for name in COMMANDS:
        module = import_module(f"mirror.cli.commands.{module_name(name)}")
        module.add(command := Parser())
        assert ("--json" in command.format_help()) != (name in texts), name


async def test_a_damaged_file_is_named_beside_the_object(hub: Hub, image: Image, run: Run) -> None:
    async with run() as mirror:
        await mirror.pull("library/nginx", "latest", image)
        path, digest = mirror.folder.blob(image.layers[1].digest), image.layers[1].digest
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    ended = await do(mirror.folder.path, ("verify",))
    assert (ended.code, json.loads(ended.out)["wrong"]) == (1, 1)
    assert digest in ended.err


async def test_no_running_mirror_is_the_same_sentence_everywhere(run: Run) -> None:
    async with run() as mirror:
        folder = mirror.folder.path
    told = {(await do(folder, words)).err for words, _ in (*BESIDE, UPKEEP[-1])}
    [line] = told
    assert f"no mirror takes orders on {folder}/control.sock: none runs there" in line
    assert "`mirror serve` starts one" in line


async def test_the_index_is_as_large_to_the_doctor_as_to_du(run: Run) -> None:
    async with run() as mirror:
        folder = mirror.folder.path
    index = json.loads((await do(folder, ("du",))).out)["index"]
    found = json.loads((await do(folder, ("doctor",))).out)
    [words] = [each["words"] for each in found if each["check"] == "index"]
    assert words.startswith(f"{human(index)}, sound")


async def test_faults_and_warnings_of_the_configuration_are_an_object(tmp_path: Path) -> None:
    file = tmp_path / "mirror.toml"
    file.write_text(f'data_dir = "{tmp_path}/data"\ntag_ttl = "often"\n')
    async with launched("check", "--json", "--config", file, command=MODULE) as command:
        ended = await command.ended(within=60)
    told = json.loads(ended.out)
    assert ended.code == 1
    assert "tag_ttl" in told["faults"][0]
    assert (told["warnings"], told["trials"]) == ([], [])
