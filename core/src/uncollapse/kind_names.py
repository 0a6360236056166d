"""The names of the kinds of component; nothing heavy is imported, since the command line reads them for its help."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Kind"]


class Kind(StrEnum):
    """Kinds of component, as :data:`uncollapse.config.KINDS` has them."""

    data = "data"
    encoder = "encoder"
    posterior = "posterior"
    moment_transform = "moment_transform"
    prior = "prior"
    decoder = "decoder"
    likelihood = "likelihood"
    objective = "objective"
    regularizer = "regularizer"
    schedule = "schedule"
    optimizer = "optimizer"
    learning_rate = "learning_rate"
    strategy = "strategy"
    observer = "observer"
    estimator = "estimator"
    probe = "probe"
    sampler = "sampler"
