"""Checks of likelihoods, which turn a decoder's raw output into ``p(x|z)``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from uncollapse.config import BuildContext
from uncollapse.errors import UncollapseError
from uncollapse.protocols import DataSpec, output_channels

from .case import COUNT, Case
from .checks_data_parts import expect_inside
from .report import NotApplicable, expect
from .tensors import close, expect_close, expect_finite, expect_gradients, expect_shape

__all__ = ["LIKELIHOOD_CHECKS"]

SAMPLES = 2


def _outputs(likelihood: Any, data: DataSpec, *leading: int) -> Tensor:
    channels, *rest = data.event_shape
    return torch.randn(*leading, output_channels(likelihood, channels), *rest)


def likelihood_shape(case: Case) -> None:
    """``[S, B, O, *rest]`` to batch ``[S, B]``, event ``X``."""
    likelihood, data = case.module(), case.setting.data
    name = "output_channels" if hasattr(likelihood, "output_channels") else "outputs_per_value"
    numbers: Any = getattr(likelihood, name)
    expect(isinstance(numbers, int) and numbers >= 1, f"{name}: expected a whole number, found {numbers!r}")
    p = likelihood(_outputs(likelihood, data, SAMPLES, COUNT))
    expect_shape("batch of p(x|z)", p.batch_shape, (SAMPLES, COUNT))
    expect_shape("event of p(x|z)", p.event_shape, data.event_shape)
    log_prob = p.log_prob(case.setting.x(COUNT))
    expect_shape("log_prob for x [B, *X]", log_prob.shape, (SAMPLES, COUNT))
    expect_finite("log_prob", log_prob)


def likelihood_sums_over_event(case: Case) -> None:
    """Nats are summed over the event: twice the values, each repeated, give twice the nats; a mean would not."""
    likelihood: Any = case.module()
    data = case.setting.data
    if len(data.event_shape) < 2:
        raise NotApplicable("the event has one dimension, which holds the channels")
    outputs, x = _outputs(likelihood, data, COUNT), case.setting.x(COUNT)
    try:
        wide = DataSpec((*data.event_shape[:-1], 2 * data.event_shape[-1]), data.support)
        larger: Any = case.build(BuildContext(wide, case.context.latent_shape))
        larger.load_state_dict(likelihood.state_dict())
        doubled = larger(torch.cat([outputs, outputs], -1)).log_prob(torch.cat([x, x], -1))
    except (UncollapseError, RuntimeError) as error:
        raise NotApplicable(f"its state depends on the size of the event: {error}") from error
    expect_close("log_prob of the event laid side by side", doubled, 2 * likelihood(outputs).log_prob(x), atol=1e-3)


def likelihood_gradients(case: Case) -> None:
    """The log-likelihood moves the outputs and every parameter."""
    likelihood, data = case.module(), case.setting.data
    outputs = _outputs(likelihood, data, COUNT).requires_grad_()
    loss = likelihood(outputs).log_prob(case.setting.x(COUNT)).sum()
    (gradient,) = torch.autograd.grad(loss, [outputs], allow_unused=True, retain_graph=True)
    expect(gradient is not None and bool(gradient.any()), "no gradient reaches the decoder's outputs")
    expect_finite("gradient of the outputs", gradient)
    expect_gradients(likelihood, loss)


def likelihood_sample(case: Case) -> None:
    """Samples have the event's shape, lie inside the support and have a finite log_prob."""
    likelihood, data = case.module(), case.setting.data
    p = likelihood(_outputs(likelihood, data, COUNT))
    x = p.sample()
    expect_shape("sample", x.shape, (COUNT, *data.event_shape))
    expect(not x.requires_grad, "a sample carries a gradient; draw it under torch.no_grad or detach it")
    expect_inside(p, x)
    expect_finite("log_prob of a sample", p.log_prob(x))


def likelihood_bfloat16(case: Case) -> None:
    """Outputs in bfloat16 give float32 nats."""
    likelihood, data = case.module(), case.setting.data
    outputs = _outputs(likelihood, data, COUNT).bfloat16()
    log_prob = likelihood(outputs).log_prob(case.setting.x(COUNT))
    expect(log_prob.dtype == torch.float32, f"expected float32 nats for bfloat16 outputs, found {log_prob.dtype}")
    expect_finite("log_prob", log_prob)


def likelihood_total_probability(case: Case) -> None:
    """The probabilities of one value sum to one: over {0, 1}, over the 256 bytes, or its density over the line."""
    data = DataSpec((1, 1, 1), case.setting.data.support, vocabulary_size=case.setting.data.vocabulary_size)
    try:
        likelihood: nn.Module = case.module(context=BuildContext(data, case.context.latent_shape)).double()
        p = likelihood(_outputs(likelihood, data, 4).double())
    except (UncollapseError, RuntimeError, ValueError) as error:
        raise NotApplicable(f"it does not take a single value: {error}") from error
    bits, bytes_ = torch.arange(2, dtype=torch.float64), torch.arange(256, dtype=torch.float64) / 255
    line = torch.linspace(-40, 40, 80_001, dtype=torch.float64)
    totals = []
    for grid, width in ((bits, 1.0), (bytes_, 1.0), (line, 1e-3)):
        try:
            with torch.no_grad():
                totals.append(p.log_prob(grid.reshape(-1, 1, 1, 1, 1)).exp().sum(0) * width)
        except (RuntimeError, ValueError, IndexError):
            continue  # Values outside its support, which a distribution may refuse.
        if close(totals[-1], torch.ones_like(totals[-1])):
            return
    found = "; ".join(f"{float(t.min()):.4g} to {float(t.max()):.4g}" for t in totals)
    expect(False, f"expected a total probability of 1 over {{0, 1}}, over the bytes or over the line; found {found}")


LIKELIHOOD_CHECKS = (
    likelihood_shape, likelihood_sums_over_event, likelihood_gradients, likelihood_sample, likelihood_bfloat16,
    likelihood_total_probability,
)  # fmt: skip
