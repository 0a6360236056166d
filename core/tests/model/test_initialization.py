"""He's start of weights: its variance for every kind of layer, what it leaves alone, and its place in a pipeline."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from uncollapse import Pipeline
from uncollapse.encoders import MLPEncoder
from uncollapse.errors import ConfigError
from uncollapse.initialization import he_normal


@pytest.mark.parametrize(
    ("layer", "inputs"),
    [
        (nn.Linear(50, 200), 50),
        # The paper of μ-VAE has this one as an example: 3x3 and 32 channels are 288 inputs, a deviation of 0.083.
        (nn.Conv2d(32, 64, 3), 288),
        (nn.Conv2d(32, 64, 3, groups=4), 72),
        (nn.ConvTranspose2d(32, 8, 3, stride=2), 288),
        (nn.ConvTranspose2d(32, 8, (3, 5), groups=2), 240),
        (nn.Conv1d(16, 64, 5, bias=False), 80),
    ],
)
def test_variance_follows_the_inputs(layer: Any, inputs: int) -> None:
    he_normal(layer)
    weight = layer.weight.detach()
    assert math.isclose(weight.std().item(), math.sqrt(2 / inputs), rel_tol=0.06)
    assert abs(weight.mean().item()) < 0.1 * math.sqrt(2 / inputs)
    # A uniform draw would end at 1.7 deviations.
    assert weight.abs().max() > 2.5 * math.sqrt(2 / inputs)
    assert layer.bias is None or not layer.bias.any()


def test_scale_is_kept_through_rectified_layers() -> None:
    net = nn.Sequential(*[m for _ in range(10) for m in (nn.Linear(256, 256), nn.ReLU())])
    he_normal(net)
    ratio = net(torch.randn(64, 256)).square().mean().item()
    assert 0.3 < ratio < 3.0


def test_other_layers_stay() -> None:
    net = nn.Sequential(nn.Embedding(5, 3), nn.LayerNorm(3), nn.LSTM(3, 4))
    before = {name: t.clone() for name, t in net.state_dict().items()}
    he_normal(net)
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())


def test_weight_normalization_is_refused() -> None:
    net = nn.Sequential(nn.ReLU(), nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)))
    with pytest.raises(ConfigError, match=r"model\.initialization: .* weight of 1 is computed from other parameters"):
        he_normal(net)


def test_in_a_pipeline() -> None:
    raw = {
        "name": "he",
        "data": {"type": "digits"},
        "model": {
            "encoder": {"type": "mlp", "hidden": [300]},
            "posterior": {"type": "gaussian", "latent_dim": 40},
            "decoder": {"type": "mlp", "hidden": [300]},
        },
    }
    plain = Pipeline.from_dict(raw).build().model
    model = Pipeline.from_dict(raw, ["model.initialization=he_normal"]).build().model
    assert isinstance(model.encoder, MLPEncoder)
    for layer in (m for m in model.modules() if isinstance(m, nn.Linear)):
        assert math.isclose(layer.weight.std().item(), math.sqrt(2 / layer.in_features), rel_tol=0.06)
        assert not layer.bias.any()
    assert all(layer.bias.any() for layer in plain.modules() if isinstance(layer, nn.Linear))
    with pytest.raises(ConfigError, match=r"model\.initialization"):
        Pipeline.from_dict(raw, ["model.initialization=xavier"])
