"""Parts go together, or are refused when the pipeline is validated; `docs/composition.md` says which."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from uncollapse_kit import compose

DOCS = Path(__file__).resolve().parent.parent / "docs"
sys.path.insert(0, str(DOCS))

import composition  # noqa: E402 - a script beside the page that it writes

REFUSED = composition.known()


@pytest.mark.parametrize("choice", composition.choices(REFUSED), ids=" - ".join)
def test_parts_train_measure_sample_save_and_load_together(choice):
    torch.manual_seed(0)
    found = compose(composition.parts_of(choice))
    assert found.works, found.reason


@pytest.mark.parametrize("pair", REFUSED, ids=" - ".join)
def test_parts_that_do_not_go_together_are_refused_with_the_reason(pair):
    found = composition.try_pair(pair)
    assert not found.works
    assert found.reason.splitlines()[0] == REFUSED[pair]


def test_the_page_is_what_was_found():
    assert (DOCS / "composition.md").read_text(encoding="utf-8") == composition.page(REFUSED)
