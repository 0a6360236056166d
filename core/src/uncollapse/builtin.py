"""The core's own parts, registered by the same door as everybody's."""

from __future__ import annotations

from .findings import CONDITIONS, Condition
from .plugins import API_VERSION, Lazy, SampleFormat, hookimpl

__all__ = ["uncollapse_components", "uncollapse_conditions", "uncollapse_sample_formats"]

uncollapse_api_version = API_VERSION


@hookimpl
def uncollapse_components() -> list[Lazy]:
    """Return the plain parts."""
    return [
        Lazy("data", "digits", "uncollapse.data.digits:DigitsConfig"),
        Lazy("data", "arrays", "uncollapse.data.arrays:ArraysConfig"),
        Lazy("encoder", "mlp", "uncollapse.encoders.mlp:MLPEncoderConfig"),
        Lazy("encoder", "conv", "uncollapse.encoders.conv:ConvEncoderConfig"),
        Lazy("posterior", "gaussian", "uncollapse.posteriors.gaussian:GaussianPosteriorConfig"),
        Lazy("prior", "standard_normal", "uncollapse.priors.standard_normal:StandardNormalPriorConfig"),
        Lazy("decoder", "mlp", "uncollapse.decoders.mlp:MLPDecoderConfig"),
        Lazy("decoder", "conv", "uncollapse.decoders.conv:ConvDecoderConfig"),
        Lazy("likelihood", "bernoulli", "uncollapse.likelihoods.likelihoods:BernoulliLikelihoodConfig"),
        Lazy("likelihood", "gaussian", "uncollapse.likelihoods.likelihoods:GaussianLikelihoodConfig"),
        Lazy("likelihood", "categorical", "uncollapse.likelihoods.likelihoods:CategoricalLikelihoodConfig"),
        Lazy("objective", "elbo", "uncollapse.objectives.elbo:ELBOConfig"),
        Lazy("objective", "reconstruction", "uncollapse.objectives.elbo:ReconstructionConfig"),
        Lazy("schedule", "constant", "uncollapse.schedules.schedules:ConstantScheduleConfig"),
        Lazy("schedule", "linear", "uncollapse.schedules.schedules:LinearScheduleConfig"),
        Lazy("optimizer", "adam", "uncollapse.optimizers:AdamConfig"),
        Lazy("optimizer", "adamw", "uncollapse.optimizers:AdamWConfig"),
        Lazy("optimizer", "adamax", "uncollapse.optimizers:AdamaxConfig"),
        Lazy("optimizer", "rmsprop", "uncollapse.optimizers:RMSpropConfig"),
        Lazy("optimizer", "sgd", "uncollapse.optimizers:SGDConfig"),
        Lazy("learning_rate", "cosine", "uncollapse.learning_rates:CosineConfig"),
        Lazy("learning_rate", "multistep", "uncollapse.learning_rates:MultistepConfig"),
        Lazy("learning_rate", "warmup", "uncollapse.learning_rates:WarmupConfig"),
        Lazy("estimator", "nll", "uncollapse.estimators.nll:ImportanceWeightedNLLConfig"),
        Lazy("estimator", "elbo", "uncollapse.estimators.elbo:ELBOEstimatorConfig"),
        Lazy("estimator", "active_units", "uncollapse.estimators.active_units:ActiveUnitsConfig"),
        Lazy("estimator", "mutual_information", "uncollapse.estimators.mutual_information:MutualInformationConfig"),
        Lazy("sampler", "ancestral", "uncollapse.samplers.from_prior:AncestralSamplerConfig"),
    ]


@hookimpl
def uncollapse_sample_formats() -> list[SampleFormat]:
    """Return the format that fits all data: numbers."""
    from .samplers.formats import NUMBERS

    return [NUMBERS]


@hookimpl
def uncollapse_conditions() -> tuple[Condition, ...]:
    """Return what the mutual information tells of a model."""
    return CONDITIONS
