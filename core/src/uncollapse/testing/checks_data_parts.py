"""Checks of the parts that touch data: encoders, decoders and likelihoods."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from ..config.component import BuildContext
from ..errors import UncollapseError
from ..protocols import DataSpec, output_channels
from .case import COUNT, Case
from .report import NotApplicable, expect
from .tensors import autocast, close, expect_close, expect_finite, expect_gradients, expect_shape, through_a_file

__all__ = ["DECODER_CHECKS", "ENCODER_CHECKS", "LIKELIHOOD_CHECKS"]

SAMPLES = 2


def expect_inside(p: Distribution, x: Tensor) -> None:
    """Raise unless ``x`` lies inside the distribution's support."""
    try:
        support: Any = p.support
    except NotImplementedError:
        expect_finite("samples", x)
        return
    inside = support.check(x)
    expect(inside.all(), f"samples: {int((~inside).sum())} of {inside.numel()} lie outside {support}")


# ------------------------------------------------------------------------------------------------------------- encoder


def encoder_shape(case: Case) -> None:
    """``[B, *X] -> [B, *H]``, and ``feature_shape`` is true."""
    encoder: Any = case.module()
    expect_shape("features", encoder(case.setting.x(COUNT)).shape, (COUNT, *encoder.feature_shape))


def encoder_gradients(case: Case) -> None:
    """A loss of the features moves every parameter."""
    encoder = case.module()
    h = encoder(case.setting.x(COUNT))
    expect_gradients(encoder, (h * torch.randn_like(h)).sum())


def encoder_batch_order(case: Case) -> None:
    """In evaluation an example's features depend on nothing else in the batch: not its order, not its size."""
    encoder, x = case.module().eval(), case.setting.x(COUNT)
    order = torch.randperm(COUNT)
    with torch.no_grad():
        h = encoder(x)
        expect_close("features of the reordered batch", encoder(x[order]), h[order])
        expect_close("features of one example alone", encoder(x[:1]), h[:1])


def encoder_deterministic(case: Case) -> None:
    """In evaluation the same data give the same features."""
    encoder, x = case.module().eval(), case.setting.x(COUNT)
    with torch.no_grad():
        expect_close("features at the second call", encoder(x), encoder(x), rtol=0, atol=0)


def encoder_finite(case: Case) -> None:
    """Features are finite in float32 and under bfloat16 autocast."""
    encoder, x = case.module(), case.setting.x(COUNT)
    for half in (False, True):
        with autocast(half):
            expect_finite("features in " + ("bfloat16" if half else "float32"), encoder(x))


def encoder_state_round_trip(case: Case) -> None:
    """A fresh encoder with the saved state gives the same features."""
    encoder, other, x = case.module(seed=0), case.module(seed=1), case.setting.x(COUNT)
    encoder(x)
    other.load_state_dict(through_a_file(encoder.state_dict()))
    with torch.no_grad():
        expect_close("features after save and load", other.eval()(x), encoder.eval()(x), rtol=0, atol=1e-6)


# ------------------------------------------------------------------------------------------------------------- decoder


def decoder_shape(case: Case) -> None:
    """``[..., *D]`` to batch ``[...]``, event ``X``; ``log_prob(x [B, *X])`` is ``[S, B]``."""
    decoder, event = case.module(), case.setting.data.event_shape
    for leading in ((COUNT,), (SAMPLES, COUNT)):
        p: Distribution = decoder(case.setting.z(*leading))
        expect_shape(f"batch of p(x|z) for z {[*leading, '*D']}", p.batch_shape, leading)
        expect_shape("event of p(x|z)", p.event_shape, event)
        log_prob = p.log_prob(case.setting.x(COUNT))
        expect_shape(f"log_prob for z {[*leading, '*D']} and x [B, *X]", log_prob.shape, leading)
        expect_finite("log_prob", log_prob)


def decoder_broadcasts(case: Case) -> None:
    """``S`` samples at once give what they give one by one: in evaluation nothing else mixes them."""
    decoder, x, z = case.module().eval(), case.setting.x(COUNT), case.setting.z(SAMPLES, COUNT)
    with torch.no_grad():
        together = decoder(z).log_prob(x)
        apart = torch.stack([decoder(row).log_prob(x) for row in z])
    expect_close("log_prob of all samples at once and of each alone", together, apart, rtol=1e-4, atol=1e-3)


def decoder_batch_order(case: Case) -> None:
    """In evaluation an example's likelihood depends on nothing else in the batch: not its order, not its size."""
    decoder, x, z = case.module().eval(), case.setting.x(COUNT), case.setting.z(COUNT)
    order = torch.randperm(COUNT)
    with torch.no_grad():
        log_prob = decoder(z).log_prob(x)
        shuffled = decoder(z[order]).log_prob(x[order])
        expect_close("log_prob of the reordered batch", shuffled, log_prob[order], rtol=1e-4, atol=1e-3)
        alone = decoder(z[:1]).log_prob(x[:1])
        expect_close("log_prob of one example alone", alone, log_prob[:1], rtol=1e-4, atol=1e-3)


def decoder_sample(case: Case) -> None:
    """Samples have the batch's shape and lie inside the support."""
    decoder = case.module().eval()
    with torch.no_grad():
        p: Distribution = decoder(case.setting.z(SAMPLES))
        x = p.sample()
        expect_shape("sample", x.shape, (SAMPLES, *case.setting.data.event_shape))
        expect_inside(p, x)
        expect_finite("log_prob of a sample", p.log_prob(x))


def decoder_gradients(case: Case) -> None:
    """The log-likelihood moves every parameter, and the latent."""
    decoder = case.module()
    z = case.setting.z(SAMPLES, COUNT).requires_grad_()
    log_prob = decoder(z).log_prob(case.setting.x(COUNT))
    loss = (log_prob * torch.randn_like(log_prob)).sum()
    expect_gradients(decoder, loss)
    (gradient,) = torch.autograd.grad(loss, [z], allow_unused=True)
    expect(gradient is not None and bool(gradient.any()), "no gradient reaches z: the decoder cannot use its latent")


def decoder_uses_latent(case: Case) -> None:
    """Another latent gives another likelihood."""
    decoder, x = case.module().eval(), case.setting.x(COUNT)
    with torch.no_grad():
        one, other = (decoder(case.setting.z(COUNT, seed=s)).log_prob(x) for s in (2, 3))
    expect((one - other).abs().max() > 0, "expected log_prob to change with z, found the same for every z")


def decoder_finite(case: Case) -> None:
    """Likelihoods and their gradients are finite in float32 and under bfloat16 autocast, and summed in float32."""
    decoder, x, z = case.module(), case.setting.x(COUNT), case.setting.z(1, COUNT)
    for half in (False, True):
        with autocast(half):
            log_prob = decoder(z).log_prob(x)
        told = "log_prob in " + ("bfloat16" if half else "float32")
        expect_finite(told, log_prob)
        expect(log_prob.dtype == torch.float32, f"{told}: expected float32 nats, found {log_prob.dtype}")
        expect_gradients(decoder, log_prob.sum())


def decoder_total_probability(case: Case) -> None:
    """On 2x2 binary images the 16 probabilities sum to one for every latent: order and masks are right."""
    if case.setting.data.support != "binary":
        raise NotApplicable("the data are not binary")
    data = DataSpec((1, 2, 2), "binary")
    context = BuildContext(data, case.context.latent_shape, case.context.feature_shape)
    try:
        decoder = case.module(context=context).double().eval()
        x = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4)), dtype=torch.float64).reshape(16, 1, 1, 2, 2)
        z = case.setting.z(3).double()
        with torch.no_grad():
            p = decoder(z.expand(16, *z.shape))
            total = p.log_prob(x.expand(16, 3, 1, 2, 2)).exp().sum(0)
    except (UncollapseError, RuntimeError, ValueError) as error:
        raise NotApplicable(f"it does not take 2x2 images: {error}") from error
    try:
        discrete = p.support.is_discrete
    except NotImplementedError:
        discrete = True
    if not discrete:
        raise NotApplicable("the likelihood is a density")
    expect_close("total probability", total, torch.ones_like(total), rtol=1e-5)


def decoder_state_round_trip(case: Case) -> None:
    """A fresh decoder with the saved state gives the same likelihoods."""
    decoder, other = case.module(seed=0), case.module(seed=1)
    x, z = case.setting.x(COUNT), case.setting.z(COUNT)
    decoder(z).log_prob(x)
    other.load_state_dict(through_a_file(decoder.state_dict()))
    with torch.no_grad():
        found, expected = other.eval()(z).log_prob(x), decoder.eval()(z).log_prob(x)
    expect_close("log_prob after save and load", found, expected, rtol=1e-5, atol=1e-5)


# ---------------------------------------------------------------------------------------------------------- likelihood


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


ENCODER_CHECKS = (
    encoder_shape, encoder_gradients, encoder_batch_order, encoder_deterministic, encoder_finite,
    encoder_state_round_trip,
)  # fmt: skip
DECODER_CHECKS = (
    decoder_shape, decoder_broadcasts, decoder_batch_order, decoder_sample, decoder_gradients, decoder_uses_latent,
    decoder_finite, decoder_total_probability, decoder_state_round_trip,
)  # fmt: skip
LIKELIHOOD_CHECKS = (
    likelihood_shape, likelihood_sums_over_event, likelihood_gradients, likelihood_sample, likelihood_bfloat16,
    likelihood_total_probability,
)  # fmt: skip
