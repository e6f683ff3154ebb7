"""The end of a certificate is read from its file, among other text."""

from __future__ import annotations

import base64
import random
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme

from mirror.util.certificate_end import certificate_end


@pytest.mark.parametrize("year", [2031, 2049, 2051, 9999])
def test_the_end_is_that_of_the_first_certificate(tmp_path: Path, year: int) -> None:
    end = datetime(year, 3, 4, 5, 6, 7, tzinfo=UTC)
    made = trustme.CA().issue_cert("mirror.test", not_after=end)
    file = tmp_path / "chain.pem"
    chain = [made.private_key_pem, *made.cert_chain_pems, trustme.CA().cert_pem]
    file.write_bytes(b"".join(pem.bytes() for pem in chain))
    assert certificate_end(file) == end.timestamp()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no certificate",
        "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\nMAMwAQA=\n-----END CERTIFICATE-----",
    ],
)
def test_other_text_has_no_end(tmp_path: Path, text: str) -> None:
    file = tmp_path / "chain.pem"
    file.write_text(text)
    assert certificate_end(file) is None


def test_bytes_in_no_order_have_no_end(tmp_path: Path) -> None:
    draw = random.Random(7)
    file = tmp_path / "chain.pem"
    made = trustme.CA().issue_cert("mirror.test").cert_chain_pems[0].bytes()
    der = bytearray(base64.b64decode(b"".join(made.splitlines()[1:-1])))
    for _ in range(300):
        torn = bytearray(der)
        for _ in range(draw.randrange(1, 6)):
            torn[draw.randrange(len(torn))] = draw.randrange(256)
        text = base64.b64encode(torn[: draw.randrange(len(torn))]).decode()
        file.write_text(f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----")
        assert certificate_end(file) is None or isinstance(certificate_end(file), float)
