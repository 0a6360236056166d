"""What the parts that no paper's remedy needs are good for: schedules, decoders, latents of the right size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from uncollapse.plugins import Remedy

__all__ = ["REMEDIES"]

_AUTOREGRESSIVE_IMAGES = ("pixelcnn", "gated_pixelcnn", "pixelcnnpp")
_AUTOREGRESSIVE_TEXTS = ("lstm", "transformer")


def _epochs(pipeline: Mapping[str, Any], share: float) -> float:
    return float(max(1.0, share * pipeline["training"]["epochs"]))


def _annealing(pipeline: Mapping[str, Any], collapsed: tuple[int, ...]) -> Mapping[str, Any]:
    weight = {"type": "linear", "until_epoch": _epochs(pipeline, 0.5)}
    return {"objective": {"type": "elbo", "rate_weight": weight}}


def _cycles(pipeline: Mapping[str, Any], collapsed: tuple[int, ...]) -> Mapping[str, Any]:
    weight = {"type": "cyclical", "until_epoch": _epochs(pipeline, 0.8)}
    return {"objective": {"type": "elbo", "rate_weight": weight}}


def _fewer_dimensions(pipeline: Mapping[str, Any], collapsed: tuple[int, ...]) -> Mapping[str, Any]:
    size = pipeline["model"]["posterior"]["latent_dim"]
    left = max(1, (size if isinstance(size, int) else size[0]) - len(collapsed))
    return {"model": {"posterior": {"latent_dim": left if isinstance(size, int) else [left, *size[1:]]}}}


REMEDIES = [
    Remedy(
        name="free_bits",
        treats={"collapsed": 2, "partly collapsed": 2},
        fragment={"objective": {"type": "elbo", "free_bits": {"nats": 0.25, "variant": "batch_per_dimension"}}},
        why="A dimension costs nothing below 0.25 nats, so none is pushed to the prior.",
        cost="The bound is no longer what is maximized: rates settle near the floor.",
        source="Kingma et al. (2016), eq. 15, https://arxiv.org/abs/1606.04934",
        needs={"model.posterior.type": ("gaussian",), "model.prior.type": ("standard_normal",)},
    ),
    Remedy(
        name="conditioning_maps",
        treats={"decoder ignores z": 1, "collapsed": 3},
        fragment={"model": {"decoder": {"conditioning": "maps"}}},
        why="The code reaches every pixel by maps of its own, and can say what no window of earlier pixels knows.",
        cost="A few layers from the code to the maps.",
        source="Gulrajani et al., PixelVAE (2017), https://arxiv.org/abs/1611.05013",
        needs={"model.decoder.type": ("pixelcnn", "gated_pixelcnn"), "model.decoder.conditioning": ("bias",)},
    ),
    Remedy(
        name="cyclical_annealing",
        treats={"collapsed": 3, "inference lagging": 3},
        fragment=_cycles,
        why="The code is free at the start of every cycle, and the decoder learns to read it before it costs.",
        cost="The first 80 % of the epochs are spent in cycles.",
        source="Fu et al. (2019), https://arxiv.org/abs/1903.10145",
    ),
    Remedy(
        name="kl_annealing",
        treats={"collapsed": 3, "inference lagging": 3},
        fragment=_annealing,
        why="The code is free at the start, and the decoder learns to read it before it costs.",
        cost="Half of the epochs; a decoder that is strong enough still drops the code once the weight is 1.",
        source="Bowman et al. (2016), section 3.1, https://arxiv.org/abs/1511.06349",
    ),
    Remedy(
        name="lower_rate_weight",
        treats={"collapsed": 2},
        fragment={"objective": {"type": "elbo", "rate_weight": 0.2}},
        why="A nat of rate costs a fifth, so a fifth of what it tells is enough to keep it.",
        cost="The model is no longer trained on the bound, and codes drift from the prior.",
        source="Higgins et al., beta-VAE (2017); Alemi et al. (2018), https://arxiv.org/abs/1711.00464",
    ),
    Remedy(
        name="fewer_dimensions",
        treats={"partly collapsed": 3},
        fragment=_fewer_dimensions,
        why="The dimensions that carry nothing are left out; nothing is lost, and nothing is gained.",
        cost="None.",
        source="Lucas et al. (2019), https://arxiv.org/abs/1911.02469",
        needs={"model.posterior.type": ("gaussian",)},
    ),
    Remedy(
        name="word_dropout",
        treats={"decoder ignores z": 1, "collapsed": 2},
        fragment={"model": {"decoder": {"word_dropout": 0.5}}},
        why="Half of the words that the decoder reads are hidden in training, so that it has to ask the code.",
        cost="A decoder that reads worse: perplexity rises.",
        source="Bowman et al. (2016), section 3.2, https://arxiv.org/abs/1511.06349",
        needs={"model.decoder.type": _AUTOREGRESSIVE_TEXTS},
    ),
    Remedy(
        name="factorized_decoder",
        treats={"decoder ignores z": 2, "collapsed": 3},
        fragment={"model": {"decoder": {"type": "mlp"}}},
        why="Pixels that are independent given z leave everything they share to the code.",
        cost="A weaker model of the data: likelihood falls, samples lose detail.",
        source="Chen et al. (2017), https://arxiv.org/abs/1611.02731, on why strong decoders ignore the code",
        slowdown=0.1,
        needs={"model.decoder.type": _AUTOREGRESSIVE_IMAGES},
    ),
    Remedy(
        name="full_rate",
        treats={"over-informative": 1},
        fragment={"objective": {"type": "elbo", "rate_weight": 1.0, "free_bits": None}},
        why="The rate has its full weight in the bound, which pulls codes to the prior.",
        cost="Distortion rises; a strong decoder may drop the code instead.",
        source="Kingma and Welling (2014), eq. 3, https://arxiv.org/abs/1312.6114",
    ),
    Remedy(
        name="learned_prior",
        treats={"over-informative": 2},
        fragment={"model": {"prior": {"type": "vampprior"}}},
        why="The prior goes where the codes are, instead of the codes where the prior is.",
        cost="500 pseudo-inputs pass the encoder at every step.",
        source="Tomczak and Welling (2018), eq. 9, https://arxiv.org/abs/1705.07120",
        slowdown=1.7,
        needs={"model.posterior.type": ("gaussian",), "model.prior.type": ("standard_normal", "gaussian_mixture")},
    ),
]
