"""Wiring: who is called with what, in which order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Independent, Normal, TransformedDistribution
from torch.distributions.transforms import AffineTransform
from torch.testing import assert_close
from uncollapse import LatentVariableModel
from uncollapse.distributions import DiagonalNormal
from uncollapse.protocols import Progress

X, H, D = 6, 5, 3
Calls = list[tuple[str, Any]]


class Part(nn.Module):
    """Writes down how it is initialised."""

    def __init__(self, calls: Calls) -> None:
        super().__init__()
        self.calls = calls

    def initialize(self, *inputs: Tensor) -> None:
        assert not torch.is_grad_enabled()
        self.calls.append((type(self).__name__, [tuple(t.shape) for t in inputs]))


class Encoder(Part):
    def __init__(self, calls: Calls) -> None:
        super().__init__(calls)
        self.net = nn.Linear(X, H)

    def initialize(self, *inputs: Tensor) -> None:
        super().initialize(*inputs)
        self.net.bias.data.fill_(7.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Posterior(Part):
    latent_shape = (D,)

    def __init__(self, calls: Calls) -> None:
        super().__init__(calls)
        self.net = nn.Linear(H, D)
        self.seen: list[Progress | None] = []

    def initialize(self, *inputs: Tensor) -> None:
        super().initialize(*inputs)
        self.initial_features = inputs[0]

    def forward(self, h: Tensor, progress: Progress | None = None) -> Any:
        self.seen.append(progress)
        return DiagonalNormal(self.net(h), torch.zeros(len(h), D))


class FlowPosterior(Posterior):
    def forward(self, h: Tensor, progress: Progress | None = None) -> Any:
        base = Independent(Normal(self.net(h), 1.0), 1)
        return TransformedDistribution(base, [AffineTransform(1.0, 2.0, event_dim=1)])


class Prior(Part):
    def __init__(self, calls: Calls) -> None:
        super().__init__(calls)
        self.infer: Callable[[Tensor], Any] | None = None

    def bind(self, infer: Callable[[Tensor], Any]) -> None:
        self.infer = infer
        self.calls.append(("bind", None))

    def forward(self) -> Any:
        return DiagonalNormal(torch.zeros(D), torch.zeros(D))


class Decoder(Part):
    def __init__(self, calls: Calls) -> None:
        super().__init__(calls)
        self.net = nn.Linear(D, X)

    def forward(self, z: Tensor) -> Any:
        return Independent(Bernoulli(logits=self.net(z), validate_args=False), 1)


def wired(posterior: type[Posterior] = Posterior) -> tuple[LatentVariableModel, Calls]:
    calls: Calls = []
    return LatentVariableModel(Encoder(calls), posterior(calls), Prior(calls), Decoder(calls)), calls


def test_prior_is_handed_the_inference_network() -> None:
    model, calls = wired()
    assert calls == [("bind", None)]
    x = torch.randn(2, X)
    assert model.prior.infer is not None
    assert_close(model.prior.infer(x).mean, model.infer(x).mean)


def test_binding_adds_nothing_to_the_state() -> None:
    model, _ = wired()
    assert {k.partition(".")[0] for k in model.state_dict()} == {"encoder", "posterior", "decoder"}


def test_initialization_goes_from_encoder_to_decoder_on_what_each_will_receive() -> None:
    model, calls = wired()
    calls.clear()
    x = torch.randn(8, X)
    model.initialize(x)
    assert calls == [
        ("Encoder", [(8, X)]),
        ("Posterior", [(8, H)]),
        ("Prior", [(8, X)]),
        ("Decoder", [(8, D), (8, X)]),
    ]
    # The posterior was given the features of the encoder as initialised.
    assert_close(model.posterior.initial_features, model.encoder(x).detach())
    assert bool((model.encoder.net.bias == 7.0).all())


def test_parts_without_initialize_are_left_alone() -> None:
    calls: Calls = []
    plain = nn.Linear(X, H)
    model = LatentVariableModel(plain, Posterior(calls), Prior(calls), Decoder(calls))
    calls.clear()
    model.initialize(torch.randn(4, X))
    assert [name for name, _ in calls] == ["Posterior", "Prior", "Decoder"]


@pytest.mark.parametrize("samples", [1, 4])
def test_one_pass(samples: int) -> None:
    model, _ = wired()
    x, progress = (torch.rand(5, X) > 0.5).float(), Progress(step=3)
    one = model(x, samples=samples, progress=progress)
    assert one.x is x
    assert one.h.shape == (5, H)
    assert one.z.shape == (samples, 5, D)
    assert one.q.batch_shape == (5,)
    assert one.p_z.event_shape == (D,)
    assert one.p_x.batch_shape == (samples, 5)
    assert one.progress is progress
    assert model.posterior.seen[-1] is progress
    assert one.log_p_x.shape == one.log_q.shape == one.log_p_z.shape == (samples, 5)
    assert model.latent_shape == (D,)


def test_progress_starts_at_the_beginning() -> None:
    model, _ = wired()
    assert model(torch.zeros(2, X)).progress == Progress()


def test_a_gaussian_pays_for_no_density_and_a_flow_brings_its_own() -> None:
    assert wired()[0](torch.zeros(2, X)).known_log_q is None
    one = wired(FlowPosterior)[0](torch.zeros(2, X), samples=3)
    assert one.known_log_q is not None
    assert one.log_q is one.known_log_q
    assert_close(one.log_q, one.q.log_prob(one.z))


def test_gradients_reach_encoder_posterior_and_decoder() -> None:
    model, _ = wired()
    one = model(torch.rand(5, X), samples=2)
    (one.distortion + one.rate()).mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.any()), name


def test_generate_and_prior() -> None:
    model, _ = wired()
    assert model.p_z().sample((4,)).shape == (4, D)
    p = model.generate(torch.randn(2, 4, D))
    assert p.batch_shape == (2, 4)
    assert p.event_shape == (X,)
