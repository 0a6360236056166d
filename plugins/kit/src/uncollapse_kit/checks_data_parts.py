"""Checks of the parts that touch data: encoders and decoders."""

from __future__ import annotations

import itertools
from dataclasses import astuple
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution
from uncollapse.config import BuildContext
from uncollapse.errors import UncollapseError
from uncollapse.protocols import DataSpec

from .case import COUNT, Case
from .contexts import outside_support
from .report import NotApplicable, expect
from .tensors import autocast, expect_close, expect_finite, expect_gradients, expect_shape, through_a_file

__all__ = ["DECODER_CHECKS", "ENCODER_CHECKS", "expect_inside"]

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


def _longest_first(case: Case) -> Tensor:
    """Return texts ``[COUNT, T]``, the first as long as the event: padding is what is to be tried."""
    data = case.setting.data
    if data.special is None:
        raise NotApplicable("the data are no texts with padding")
    x = case.setting.x(COUNT)
    return torch.cat([x[:1].masked_fill(x[:1] == data.special.padding, data.special.unknown), x[1:]])


def _bare(case: Case, x: Tensor) -> list[Tensor]:
    """Return every text of ``x [B, T]`` alone, ``[1, n]`` without padding."""
    special: Any = case.setting.data.special
    return [text[text != special.padding][None] for text in x]


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


def encoder_ignores_padding(case: Case) -> None:
    """In evaluation a text has the same features whatever its batch is padded to."""
    encoder, x = case.module().eval(), _longest_first(case)
    with torch.no_grad():
        h = encoder(x)
        for i, text in enumerate(_bare(case, x)):
            expect_close("features of a padded text and of the text alone", h[i : i + 1], encoder(text), atol=1e-5)


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


def decoder_ignores_padding(case: Case) -> None:
    """In evaluation a text has the same likelihood whatever its batch is padded to: padding has none."""
    decoder, x, z = case.module().eval(), _longest_first(case), case.setting.z(COUNT)
    with torch.no_grad():
        log_prob = decoder(z).log_prob(x)
        for i, text in enumerate(_bare(case, x)):
            alone = decoder(z[i : i + 1]).log_prob(text)
            expect_close("log_prob of a padded text and of the text alone", log_prob[i : i + 1], alone, atol=1e-5)


def decoder_sample(case: Case) -> None:
    """Samples have the batch's shape and lie inside the support."""
    decoder = case.module().eval()
    with torch.no_grad():
        p: Distribution = decoder(case.setting.z(SAMPLES))
        x = p.sample()
        expect_shape("sample", x.shape, (SAMPLES, *case.setting.data.event_shape))
        expect_inside(p, x)
        wrong = outside_support(x, case.setting.data) if case.setting.data.support == "tokens" else ""
        expect(not wrong, f"samples: {wrong}")
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
    """The probabilities of all 2x2 binary images, or of all texts of a small vocabulary, sum to one for every latent:
    order and masks are right.
    """
    data, x = _everything(case.setting.data)
    context = BuildContext(data, case.context.latent_shape, case.context.feature_shape)
    try:
        decoder = case.module(context=context).double().eval()
        z = case.setting.z(3).double()
        with torch.no_grad():
            p = decoder(z.expand(len(x), *z.shape))
            total = p.log_prob(x.expand(-1, 3, *data.event_shape)).exp().sum(0)
    except (UncollapseError, RuntimeError, ValueError) as error:
        raise NotApplicable(f"it does not take data of shape {data.event_shape}: {error}") from error
    try:
        discrete = p.support.is_discrete
    except NotImplementedError:
        discrete = True
    if not discrete:
        raise NotApplicable("the likelihood is a density")
    expect_close("total probability", total, torch.ones_like(total), rtol=1e-5)


def _everything(data: DataSpec) -> tuple[DataSpec, Tensor]:
    """Return a small world like ``data``, and all that can be seen in it, ``[N, 1, *X]``."""
    if data.support == "binary":
        images = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4)), dtype=torch.float64)
        return DataSpec((1, 2, 2), "binary"), images.reshape(-1, 1, 1, 2, 2)
    if data.support != "tokens":
        raise NotApplicable("the data are neither binary nor tokens")
    # As many ids as there are special ones, and a word.
    size = 3 if data.special is None else max(astuple(data.special)) + 2
    small = DataSpec((3,), "tokens", vocabulary_size=size, special=data.special)
    rows = torch.tensor(list(itertools.product(range(size), repeat=3)))
    return small, torch.stack([row for row in rows if not outside_support(row, small)])[:, None]


def decoder_state_round_trip(case: Case) -> None:
    """A fresh decoder with the saved state gives the same likelihoods."""
    decoder, other = case.module(seed=0), case.module(seed=1)
    x, z = case.setting.x(COUNT), case.setting.z(COUNT)
    decoder(z).log_prob(x)
    other.load_state_dict(through_a_file(decoder.state_dict()))
    with torch.no_grad():
        found, expected = other.eval()(z).log_prob(x), decoder.eval()(z).log_prob(x)
    expect_close("log_prob after save and load", found, expected, rtol=1e-5, atol=1e-5)


ENCODER_CHECKS = (
    encoder_shape, encoder_gradients, encoder_batch_order, encoder_deterministic, encoder_finite,
    encoder_ignores_padding, encoder_state_round_trip,
)  # fmt: skip
DECODER_CHECKS = (
    decoder_shape, decoder_broadcasts, decoder_batch_order, decoder_ignores_padding, decoder_sample, decoder_gradients,
    decoder_uses_latent, decoder_finite, decoder_total_probability, decoder_state_round_trip,
)  # fmt: skip
