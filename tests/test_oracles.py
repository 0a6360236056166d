"""The packed reference numbers are those that were computed, byte for byte."""

from __future__ import annotations

import hashlib
import lzma

import pytest
from structure import ROOT

FOLDER = ROOT / "tests" / "oracles"
SUMS = dict(reversed(line.split()) for line in (FOLDER / "SHA256SUMS").read_text().splitlines())


@pytest.mark.parametrize("name", SUMS)
def test_they_unpack_to_what_was_packed(name: str) -> None:
    assert hashlib.sha256(lzma.decompress((FOLDER / f"{name}.xz").read_bytes())).hexdigest() == SUMS[name]


def test_every_file_has_its_digest() -> None:
    assert sorted(p.name.removesuffix(".xz") for p in FOLDER.glob("*.xz")) == sorted(SUMS)
