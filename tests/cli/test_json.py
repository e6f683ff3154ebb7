"""The JSON of commands: each record as the API describes it, beside a running mirror and alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from tests.standin import Image
from tests.support.command import MODULE, Ended, launched
from tests.support.mirror import Mirror, Run

# Each command, the schema of its answer, and its exit code without a running mirror: None for one
# that needs it.
LOOKS: dict[tuple[str, ...], tuple[str, int | None]] = {
    ("status",): ("Status", 1),
    ("budget",): ("Budgets", 0),
    ("du",): ("Usage", 0),
    ("ls",): ("StoredImages", 0),
    ("ls", "*nginx*"): ("StoredImages", 0),
    ("show", "nginx:latest"): ("ShownImage", 0),
    ("show", "library/nginx"): ("ShownImage", 0),
}
ACTIONS: dict[tuple[str, ...], tuple[str, int | None]] = {
    ("pin", "nginx"): ("Pinned", 0),
    ("unpin", "nginx"): ("Pinned", 0),
    ("refresh", "nginx"): ("Refreshed", None),
    ("purge", "nginx:latest"): ("Purged", 0),
}
ALL = list((LOOKS | ACTIONS).items())


async def schema(mirror: Mirror, name: str) -> Draft202012Validator:
    """Return the schema of a record, from the description that the mirror serves."""
    described = json.loads((await mirror.ask("/api/v1/openapi.json")).text)
    components = json.dumps(described["components"]["schemas"])
    schemas = json.loads(components.replace("#/components/schemas/", "#/$defs/"))
    return Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": schemas})


def hold(ended: Ended, code: int, described: Draft202012Validator) -> None:
    assert ended.code == code, ended
    errors = [error.message for error in described.iter_errors(json.loads(ended.out))]
    assert errors == [], ended.out


async def do(folder: Path, *words: str) -> Ended:
    """Run a command to its end, its answer as JSON."""
    async with launched(*words, "--json", "--data-dir", folder, command=MODULE) as command:
        return await command.ended()


@pytest.mark.parametrize(("words", "said"), ALL, ids=[" ".join(words) for words, _ in ALL])
async def test_the_json_of_a_command_is_the_record_of_the_api(
    run: Run, image: Image, tmp_path: Path, words: tuple[str, ...], said: tuple[str, int | None]
) -> None:
    name, alone = said
    async with run() as mirror:
        await mirror.pull("library/nginx", "latest", image)
        described = await schema(mirror, name)
        if words[0] == "unpin":
            await do(tmp_path / "data", "pin", "nginx")
        hold(await do(tmp_path / "data", *words), 0, described)
        if words[0] == "purge":
            await mirror.pull("library/nginx", "latest", image)
        if words[0] == "unpin":
            await do(tmp_path / "data", "pin", "nginx")
    ended = await do(tmp_path / "data", *words)
    if alone is None:
        assert (ended.code, ended.out) == (2, "")
        assert ended.err == f"mirror: {words[0]} needs a running mirror\n"
    else:
        hold(ended, alone, described)
