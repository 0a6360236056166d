"""Every kind of component: what the generated one does, and where it stands in a pipeline.

Nothing heavy is imported here: the command line reads the kinds to answer ``--help``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from uncollapse.kind_names import Kind

__all__ = ["PIPELINE", "PLACES", "SUMMARIES", "Kind"]


SUMMARIES: Mapping[Kind, str] = MappingProxyType(
    {
        Kind.data: "Images of bars whose causes are known",
        Kind.encoder: "A fully connected encoder with layer normalization",
        Kind.posterior: "A Gaussian posterior with one variance for all examples",
        Kind.moment_transform: "A ceiling above the posterior's variance",
        Kind.prior: "A Laplace prior with learned scales",
        Kind.decoder: "A linear decoder",
        Kind.likelihood: "A Laplace likelihood with a learned scale",
        Kind.objective: "The variational Renyi bound",
        Kind.regularizer: "A floor under the spread of posterior means",
        Kind.schedule: "A weight that rises along half a cosine",
        Kind.optimizer: "The optimizer Lion",
        Kind.learning_rate: "A learning rate that falls to zero by a power",
        Kind.strategy: "Turns of the inference network and the generative model",
        Kind.observer: "A linear classifier that reads the codes while the model trains",
        Kind.estimator: "The participation ratio of the codes",
        Kind.probe: "Labels by the nearest mean of a class",
        Kind.sampler: "Samples from a Gaussian fitted to the codes",
    }
)
"""What the generated component is, for descriptions."""

PIPELINE: Mapping[str, str] = MappingProxyType(
    {
        "data": "{type: digits, binarize: dynamic}",
        "encoder": "{type: mlp, hidden: [128]}",
        "posterior": "{type: gaussian, latent_dim: 8}",
        "prior": "{type: standard_normal}",
        "decoder": "{type: mlp, hidden: [128]}",
        "objective": "{type: elbo}",
        "regularizers": "",
        "optimizer": "{type: adam, lr: 1.0e-3}",
        "learning_rate": "",
        "strategy": "",
        "observers": "",
        "estimators": "[{type: elbo}, {type: active_units}]",
        "probes": "",
    }
)
"""What stands in the generated pipeline where the component does not; nothing where the default is left."""

PLACES: Mapping[Kind, Mapping[str, str]] = MappingProxyType(
    {
        Kind.data: {"data": "{type: $type, batch_size: 100}"},
        Kind.encoder: {"encoder": "{type: $type, width: 128}"},
        Kind.posterior: {"posterior": "{type: $type, latent_dim: 8}"},
        Kind.moment_transform: {"posterior": "{type: gaussian, latent_dim: 8, moments: [{type: $type, ceiling: 0.5}]}"},
        Kind.prior: {"prior": "{type: $type, scale: 0.7}"},
        Kind.decoder: {"decoder": "{type: $type}"},
        Kind.likelihood: {
            "data": "{type: digits}",
            "decoder": "{type: mlp, hidden: [128], likelihood: {type: $type, scale: 0.2}}",
        },
        Kind.objective: {"objective": "{type: $type, alpha: 0.5, samples: 5}"},
        Kind.regularizer: {"regularizers": "[{type: $type, weight: 25.0, floor: 1.0}]"},
        Kind.schedule: {"objective": "{type: elbo, rate_weight: {type: $type, until_epoch: 3}}"},
        Kind.optimizer: {"optimizer": "{type: $type, lr: 3.0e-4}"},
        Kind.learning_rate: {"learning_rate": "{type: $type, power: 0.9}"},
        Kind.strategy: {"strategy": "{type: $type, inference_steps: 2}"},
        Kind.observer: {"observers": "[{type: $type, lr: 0.1}]"},
        Kind.estimator: {"estimators": "[{type: elbo}, {type: active_units}, {type: $type}]"},
        Kind.probe: {"probes": "[{type: $type, distance: euclidean}]"},
        Kind.sampler: {},
    }
)
"""Where the generated component stands in a pipeline, and what else has to change there."""
