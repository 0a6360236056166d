"""What a model of texts shows in a report."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.distributions import Categorical, Independent
from uncollapse import Batch
from uncollapse_text import sections


class Words:
    """A source of three texts, of which one would be markup."""

    texts = ("the soup", "<b>bold</b> & more", "a view", "nothing")

    def to_texts(self, tokens: torch.Tensor) -> list[str]:
        return [self.texts[int(row[0])] for row in tokens]

    def to_tokens(self, texts: Any) -> torch.Tensor:
        return torch.tensor([[self.texts.index(t)] for t in texts])


class Rows:
    spec = SimpleNamespace(special=None)

    def __len__(self) -> int:
        return 4

    def batches(self, size: int, **_: Any) -> Any:
        yield Batch(torch.arange(2)[:, None])
        yield Batch(torch.arange(2, 4)[:, None])


class Sampled(Independent):
    """Draws that repeat the code."""


class Spoken(Sampled):
    def decode(self, method: str = "greedy", **_: Any) -> torch.Tensor:
        return self.base_dist.logits.argmax(-1)


def trained(searches: bool) -> Any:
    family = Spoken if searches else Sampled

    def sure(index: torch.Tensor) -> torch.Tensor:
        return 200.0 * torch.nn.functional.one_hot(index.long().clamp(0, 3), 4).float()[..., None, :]

    model = torch.nn.Linear(1, 1)
    model.infer = lambda x, progress=None: torch.distributions.Independent(  # type: ignore[assignment]
        torch.distributions.Normal(x.float(), 1e-6), 1
    )
    model.p_z = lambda: torch.distributions.Independent(  # type: ignore[assignment]
        torch.distributions.Normal(torch.zeros(1), 1e-6), 1
    )
    model.generate = lambda z: family(Categorical(logits=sure(z[..., 0].round())), 1)  # type: ignore[assignment]
    source = Words()
    source.test = Rows()  # type: ignore[attr-defined]
    return SimpleNamespace(model=model, data=source)


def test_every_text_stands_where_it_belongs_and_is_escaped() -> None:
    html = sections.reconstructed(trained(True), "test", 0) or ""
    pairs = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", html)
    texts = ["the soup", "&lt;b&gt;bold&lt;/b&gt; &amp; more", "a view", "nothing"]
    assert pairs == [(row, text) for text in texts for row in ("input", "decoded", "sample")]
    assert "only be sampled from" not in html


def test_a_decoder_that_is_only_sampled_from_is_said_to_be_so() -> None:
    html = sections.reconstructed(trained(False), "test", 0) or ""
    assert "<dt>decoded</dt>" not in html
    assert html.count("The decoder can only be sampled from.") == 1
    assert "Samples of p(x|z)." in (sections.between(trained(False), "test", 0) or "")


def test_the_way_begins_at_the_first_text_and_ends_at_the_last() -> None:
    items = re.findall(r"<li>(.*?)</li>", sections.between(trained(True), "test", 0) or "")
    assert len(items) == sections.POINTS
    assert (items[0], items[-1]) == ("the soup", "nothing")


def test_draws_of_the_prior() -> None:
    html = sections.drawn(trained(True), "test", 0) or ""
    assert html == f"<ul>{'<li>the soup</li>' * sections.PRIOR_SAMPLES}</ul>"


@pytest.mark.parametrize("section", sections.SECTIONS, ids=lambda s: s.name)
def test_data_that_are_no_texts_have_no_panel(section: Any) -> None:
    assert section.show(SimpleNamespace(data=object(), model=None), "test", 0) is None
