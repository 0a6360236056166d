"""What the plugin is good for."""

from __future__ import annotations

from uncollapse.plugins import Remedy

__all__ = ["REMEDIES"]

_GAUSSIAN = {"model.posterior.type": ("gaussian",), "model.prior.type": ("standard_normal",)}

REMEDIES = [
    Remedy(
        name="delta",
        treats={"collapsed": 2, "partly collapsed": 1},
        fragment={"model": {"posterior": {"moments": [{"type": "baselines.delta", "delta": 0.15}]}}},
        why="The posterior's family keeps 0.15 nats of rate in every dimension, whatever the decoder can do.",
        cost="Rate alone is promised, not that it tells anything; the encoder's variances are bounded.",
        source="Razavi et al. (2019), https://arxiv.org/abs/1901.03416",
        needs=_GAUSSIAN,
    ),
    Remedy(
        name="batch_norm",
        treats={"collapsed": 2, "partly collapsed": 1},
        fragment={"model": {"posterior": {"moments": [{"type": "baselines.batch_norm", "gamma": 0.7}]}}},
        why="Means have a fixed spread over a batch in every dimension, which keeps the rate above a floor.",
        cost="Codes depend on the batch in training; the spread is chosen by hand.",
        source="Zhu et al. (2020), section 3, https://arxiv.org/abs/2004.12585",
        needs=_GAUSSIAN,
    ),
    Remedy(
        name="soft_free_bits",
        treats={"collapsed": 3},
        fragment={"objective": {"type": "baselines.soft_free_bits", "target": 5.0}},
        why="The rate's weight falls until the code carries 5 nats.",
        cost="The target is chosen by hand; dimensions may still be left out.",
        source="Chen et al. (2017), appendix, https://arxiv.org/abs/1611.02731",
    ),
    Remedy(
        name="aggressive",
        treats={"inference lagging": 1, "collapsed": 2},
        fragment={"training": {"strategy": {"type": "baselines.aggressive"}}},
        why="The inference network is trained until it has caught up, before the decoder takes its next step.",
        cost="Up to 100 steps of the inference network for each of the decoder, until the information stops climbing.",
        source="He et al. (2019), algorithm 1, https://arxiv.org/abs/1901.05534",
        slowdown=30.0,
        needs=_GAUSSIAN,
    ),
    Remedy(
        name="semi_amortized",
        treats={"inference lagging": 1, "collapsed": 3},
        fragment={"objective": {"type": "baselines.semi_amortized", "steps": 10}},
        why="Each example's posterior is refined by gradient steps, so that the decoder is trained on better codes.",
        cost="10 passes of the decoder and second derivatives at every step.",
        source="Kim et al. (2018), algorithm 1, https://arxiv.org/abs/1802.02550",
        slowdown=25.0,
        needs={"model.posterior.type": ("gaussian",)},
    ),
    Remedy(
        name="skip_mlp",
        treats={"decoder ignores z": 1, "collapsed": 3, "partly collapsed": 3},
        fragment={"model": {"decoder": {"type": "baselines.skip_mlp"}}},
        why="Every layer of the decoder is given the code again, so that it is not forgotten on the way.",
        cost="A matrix more in each layer.",
        source="Dieng et al. (2019), https://arxiv.org/abs/1807.04863",
        needs={"model.decoder.type": ("mlp",)},
    ),
    Remedy(
        name="skip_conv",
        treats={"decoder ignores z": 1, "collapsed": 3, "partly collapsed": 3},
        fragment={"model": {"decoder": {"type": "baselines.skip_conv"}}},
        why="Every layer of the decoder is given the code again, so that it is not forgotten on the way.",
        cost="A matrix more in each layer.",
        source="Dieng et al. (2019), https://arxiv.org/abs/1807.04863",
        needs={"model.decoder.type": ("conv",)},
    ),
]
