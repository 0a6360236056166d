"""What the plugin registers, that all of it conforms, and what it does to the demo."""

from __future__ import annotations

import pytest
from uncollapse.config import ComponentConfig
from uncollapse.plugins import registry
from uncollapse_infovae import (
    AdversarialDivergenceConfig,
    ClassMismatchConfig,
    LogDeterminantConfig,
    MarkovChainSamplerConfig,
    MMDConfig,
    MMDEstimatorConfig,
    SteinConfig,
)
from uncollapse_kit import assert_conforms

EXAMPLES: list[ComponentConfig] = [
    MMDConfig(),
    MMDConfig(kernel="inverse_multiquadratic", bandwidth="median", scales=[0.5, 2], statistic="u", prior_samples=9),
    SteinConfig(),
    SteinConfig(bandwidth="median_released", alpha=0.5),
    AdversarialDivergenceConfig(hidden=[16]),
    AdversarialDivergenceConfig(hidden=[], variant="jensen_shannon", optimizer={"type": "sgd", "lr": 0.1}),
    MarkovChainSamplerConfig(burn_in=3),
    MarkovChainSamplerConfig(burn_in=2, thin=2, chains=2, start="data"),
    MMDEstimatorConfig(),
    MMDEstimatorConfig(bandwidth="median", statistic="u", prior_samples=20),
    LogDeterminantConfig(),
    ClassMismatchConfig(samples=40, epochs=2, hidden=[8]),
]


@pytest.mark.parametrize("config", EXAMPLES, ids=lambda c: f"{c.kind}:{c.type}")
def test_conforms(config: ComponentConfig) -> None:
    assert_conforms(config)


def test_is_registered() -> None:
    info = next(p for p in registry().plugins if p.name == "infovae")
    assert (info.error, info.distribution) == (None, "uncollapse-infovae")
    assert set(info.components) == {(c.kind, c.type) for c in EXAMPLES}
    assert registry().find("regularizer", "infovae.mmd") is MMDConfig
    assert registry().find("estimator", "infovae.mmd") is MMDEstimatorConfig


def test_demo_turns_the_plain_vae_into_an_info_vae() -> None:
    fragment = dict(registry().demos())["infovae"]
    assert fragment["name"] == "infovae"
    assert fragment["objective"] == {"type": "reconstruction"}
    (regularizer,) = fragment["regularizers"]
    assert MMDConfig.model_validate(regularizer).alpha == 0.9
