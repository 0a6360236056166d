"""The inverse autoregressive flow against reference numbers, its own Jacobian and its inverse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from numpy.random import RandomState
from torch import Tensor
from torch.autograd.functional import jacobian
from torch.testing import assert_close
from uncollapse.capabilities import supports
from uncollapse.distributions import DiagonalNormal, FactorizedDensity, gaussian_base
from uncollapse_latents.flows import (
    ConditionalMADE,
    GatedStep,
    InverseAutoregressiveFlow,
    InverseAutoregressiveTransform,
)
from uncollapse_latents.flows.zuko_names import MaskedLinear


def flow(features: int = 4, steps: int = 2, context: int = 3, batch: int = 5) -> InverseAutoregressiveFlow:
    networks = [GatedStep(features, 9, context=context).double() for _ in range(steps)]
    with torch.no_grad():
        for network in networks:
            network.gate_bias.copy_(torch.randn(features))
    h = torch.randn(batch, context).double() if context else None
    base = DiagonalNormal(torch.randn(batch, features).double(), 0.5 * torch.randn(batch, features).double())
    return InverseAutoregressiveFlow(InverseAutoregressiveTransform(networks, h), base)


# ------------------------------------------------------------------------------------------------------------- network


@pytest.mark.parametrize(("features", "hidden", "layers"), [(2, 6, 1), (4, 40, 2), (5, 60, 3), (7, 3, 1)])
def test_outputs_depend_on_predecessors_and_on_all_of_them(features: int, hidden: int, layers: int) -> None:
    net = ConditionalMADE(features, hidden, layers, outputs=2, context=3).double()
    found: Any = sum(
        jacobian(lambda x: net(x, torch.randn(3).double()), torch.randn(features).double()).abs() for _ in range(20)
    )  # a ReLU may be off at one point
    predecessor = torch.ones(features, features).tril(-1).bool()
    assert found.shape == (2, features, features)
    for output in found:
        if hidden >= features - 1:
            assert torch.equal(output > 0, predecessor)
        assert not (output[~predecessor] > 0).any()


def test_the_context_reaches_every_feature_but_the_first() -> None:
    net = ConditionalMADE(5, 20, context=3).double()
    found: Any = sum(
        jacobian(lambda c: net(torch.randn(5).double(), c), torch.randn(3).double()).abs().sum(-1) for _ in range(20)
    )
    assert torch.equal(found > 0, torch.tensor([False, True, True, True, True]).expand(2, 5))
    assert net.context is not None
    assert net.context.bias is None


# ----------------------------------------------------------------------------------------------------------- reference


def released(inputs: dict[str, Any]) -> list[GatedStep]:
    """The networks of the reference numbers: hidden degrees as drawn there, weights as given."""
    state = {name: torch.from_numpy(value) for name, value in inputs["state_dict"].items()}
    networks = []
    for prefix in ("0.", "2."):
        hidden, features = state[f"{prefix}made.input_context_net.mask"].shape
        random = RandomState(0)
        degrees = [torch.from_numpy(random.randint(1, features, size=hidden)) for _ in range(2)]
        size = state[f"{prefix}made.input_context_net.cond_linear.weight"].shape[1]
        step = GatedStep(features, hidden, context=size, degrees=degrees).double()
        names = ("input_context_net", "net.1", "net.3")
        for layer, name in zip(step.made.layers, names, strict=True):
            assert isinstance(layer, MaskedLinear)
            assert torch.equal(layer.mask, state[f"{prefix}made.{name}.mask"].bool())
            layer.weight.data = state[f"{prefix}made.{name}.linear.weight"]
            layer.bias.data = state[f"{prefix}made.{name}.linear.bias"]
        assert step.made.context is not None
        step.made.context.weight.data = state[f"{prefix}made.input_context_net.cond_linear.weight"]
        assert_close(step.gate_bias.data, state[f"{prefix}sigmoid_arg_bias"])  # the start, +2, is theirs
        networks.append(step)
    return networks


def test_flow_is_that_of_the_released_code(oracle: Callable[[str], dict[str, Any]]) -> None:
    reference = oracle("duvae_iaf")
    tensors = {
        k: torch.from_numpy(v) for k, v in reference["inputs"].items() if k not in ("state_dict",) and k[0] != "m"
    }
    expected = {k: torch.from_numpy(v) for k, v in reference["expected"].items()}
    exact = {"rtol": reference["rtol"], "atol": 1e-10}
    networks = released(reference["inputs"])
    # [B, S, D] there; [S, B, D] here.
    z0, context = tensors["z0"].transpose(0, 1), tensors["context"].squeeze(1)
    base = DiagonalNormal(tensors["loc"].squeeze(1), 2 * tensors["scale"].squeeze(1).log())
    transform = InverseAutoregressiveTransform(networks, context)
    q = InverseAutoregressiveFlow(transform, base)

    z, log_scales = transform.call_and_log_scales(z0)
    assert_close(z.transpose(0, 1), expected["zT"], **exact)
    assert_close(-log_scales.sum(-1).T, expected["flow_logq_total"], **exact)
    assert_close(-transform.log_abs_det_jacobian(z0, z).T, expected["numeric_minus_logabsdet"], **exact)
    assert_close(q.log_prob(z).T, expected["log_q_zT_total"], **exact)
    # There the terms stay where they arose while the features move on: with the second step's reversed they agree.
    middle, first = InverseAutoregressiveTransform(networks[:1], context).call_and_log_scales(z0)
    _, second = InverseAutoregressiveTransform(networks[1:], context).call_and_log_scales(middle)
    stayed = -(first.flip(-1) + second.flip(-1))
    assert_close(stayed.transpose(0, 1), expected["flow_logq_per_dim_unpermuted"], **exact)
    assert_close(first.flip(-1) + second, log_scales, **exact)


# ---------------------------------------------------------------------------------------------------------- properties


@pytest.mark.parametrize("context", [0, 3])
@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("features", [1, 2, 5])
def test_inverse_and_jacobian(features: int, steps: int, context: int) -> None:
    q = flow(features, steps, context)
    eps = q.base.rsample((3,))
    z, ladj = q.flow.call_and_ladj(eps)
    assert_close(q.transform(z), eps)
    assert_close(q.transform.inv(eps), z)
    one = InverseAutoregressiveTransform(q.flow.steps, None if q.flow.context is None else q.flow.context[2])
    slope: Tensor = jacobian(one, eps[1, 2])
    assert_close(slope.det().abs().log(), ladj[1, 2])


@pytest.mark.parametrize("steps", [1, 2])
def test_samples_come_with_their_density(steps: int) -> None:
    q = flow(steps=steps)
    z, log_q = q.rsample_and_log_prob((3,))
    assert (z.shape, log_q.shape) == ((3, 5, 4), (3, 5))
    assert_close(log_q, q.log_prob(z))
    assert supports(q, FactorizedDensity)
    torch.manual_seed(3)
    z, terms = q.rsample_and_log_prob_per_dimension((3,))
    torch.manual_seed(3)
    again, log_q = q.rsample_and_log_prob((3,))
    assert torch.equal(z, again)
    assert_close(terms.sum(-1), log_q)


def test_sampling_inverts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any, z: Tensor) -> Tensor:
        raise AssertionError("inverted")

    q = flow()
    monkeypatch.setattr(InverseAutoregressiveTransform, "_inverse", refuse)
    q.rsample((2,))
    q.sample()
    q.rsample_and_log_prob((2,))
    with pytest.raises(AssertionError, match="inverted"):
        q.log_prob(torch.zeros(5, 4).double())


@pytest.mark.parametrize("steps", [1, 2])
def test_terms_belong_to_their_dimensions(steps: int) -> None:
    """With gates that read nothing the flow is one scale a dimension, and every term is a Gaussian's of its own."""
    q = flow(steps=steps, context=0)
    networks: Any = q.flow.steps
    for step in networks:
        for parameter in step.made.parameters():
            parameter.data.zero_()
    z, terms = q.rsample_and_log_prob_per_dimension((2,))
    gates = [torch.sigmoid(step.gate_bias) for step in networks]
    scale = gates[0].flip(-1) if steps == 1 else gates[0] * gates[1].flip(-1)
    mean, logvar = (t.flip(-1) if steps == 1 else t for t in (q.base.mean, q.base.logvar))
    own = DiagonalNormal(mean * scale, logvar + 2 * scale.log())
    assert_close(terms, own.log_prob_per_dimension(z))


def test_a_distribution_over_a_gaussian_without_a_mean() -> None:
    q = flow()
    assert (q.batch_shape, q.event_shape, q.has_rsample) == ((5,), (4,), True)
    assert gaussian_base(q) is q.base
    with pytest.raises(NotImplementedError):
        _ = q.mean
    z = torch.randn(5, 4).double()
    wide = q.expand((2, 5))
    assert wide.batch_shape == (2, 5)
    assert wide.rsample((3,)).shape == (3, 2, 5, 4)
    assert_close(wide.log_prob(z), q.log_prob(z).expand(2, 5))


def test_a_fresh_step_is_close_to_the_identity() -> None:
    step = GatedStep(3, 8)
    assert_close(step.gate_bias.data, torch.full((3,), 2.0))
    for parameter in step.made.parameters():
        parameter.data.zero_()
    z = torch.tensor([[1.0, 2.0, 3.0]])
    assert_close(InverseAutoregressiveTransform([step])(z), z.flip(-1) * torch.tensor(2.0).sigmoid())
