"""The kit tries parts and measurements on texts too: its examples are texts, and its model takes them."""

from __future__ import annotations

import itertools

import pytest
import torch
from uncollapse.config import BuildContext
from uncollapse.estimators.elbo import ELBOEstimatorConfig
from uncollapse.objectives.elbo import ReconstructionConfig
from uncollapse.protocols import DataSpec, SpecialTokens
from uncollapse.samplers.from_prior import AncestralSamplerConfig
from uncollapse_kit import check_component, reference_model
from uncollapse_kit.contexts import as_batch, examples_of, outside_support, settings_for

TEXTS = DataSpec((5,), "tokens", vocabulary_size=9, special=SpecialTokens(padding=4, start=2, end=0, unknown=1))


def test_example_texts_end_and_are_padded() -> None:
    x = examples_of(TEXTS, 200)
    assert outside_support(x, TEXTS) == ""
    lengths = (x != 4).sum(1)
    assert sorted(set(lengths.tolist())) == [1, 2, 3, 4, 5]
    assert bool((x[torch.arange(200), lengths - 1] == 0).all())
    assert set(x[x != 4].tolist()) == {0, 1, 3, 5, 6, 7, 8}
    assert as_batch(x[lengths < 4], TEXTS).shape[1] == 3
    assert as_batch(x, DataSpec((5,), "tokens", vocabulary_size=9)).shape == x.shape


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ([5, 0, 4, 4, 4], ""),
        ([5, 6, 7, 8, 1], ""),
        ([5, 0, 6, 4, 4], "padding behind the end"),
        ([5, 4, 6, 0, 4], "padding behind the end"),
        ([5, 0, 0, 4, 4], "padding behind the end"),
        ([5, 6, 4, 4, 4], "padding behind the end"),
        ([2, 5, 0, 4, 4], "found the start token"),
        ([9, 5, 0, 4, 4], "expected integers in 0..8"),
    ],
)
def test_what_is_no_text_is_found(text: list[int], wrong: str) -> None:
    found = outside_support(torch.tensor([[5, 6, 0, 4, 4], text]), TEXTS)
    assert wrong in found
    assert bool(found) == bool(wrong)


@pytest.mark.parametrize("special", [None, SpecialTokens()])
def test_the_reference_model_takes_texts(special: SpecialTokens | None) -> None:
    data = DataSpec((3,), "tokens", vocabulary_size=5, special=special)
    p_x = reference_model(BuildContext(data, latent_shape=(2,))).generate(torch.randn(4, 2))
    texts = torch.tensor(list(itertools.product(range(5), repeat=3)))
    texts = texts[[not outside_support(t[None], data) for t in texts]]
    torch.testing.assert_close(p_x.log_prob(texts[:, None]).exp().sum(0), torch.ones(4))
    drawn = p_x.sample((500,))
    assert drawn.shape == (500, 4, 3)
    assert outside_support(drawn, data) == ""


def test_measurements_are_checked_on_texts() -> None:
    for config in (ReconstructionConfig(), ELBOEstimatorConfig(), AncestralSamplerConfig()):
        small, _ = settings_for(config)
        report = check_component(config, context=small[-1].context)
        assert small[-1].context.data.special is not None
        # Refusing a setting is not failing it: a model that took no texts would go unnoticed.
        kinds = {c.outcome for c in report.checks if c.name.partition("_")[0] == config.kind}
        assert kinds == {"passed"}, config
