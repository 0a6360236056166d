"""What the distribution brings; each part is imported when a pipeline names it."""

from __future__ import annotations

from uncollapse.plugins import Lazy, hookimpl

__all__ = ["uncollapse_components"]

uncollapse_api_version = 1


@hookimpl
def uncollapse_components() -> list[Lazy]:
    """Return the parts."""
    return [
        Lazy("sampler", "scaled_gaussian", "uncollapse_latents.samplers:ScaledGaussianSamplerConfig"),
        Lazy("posterior", "iaf", "uncollapse_latents.posteriors.iaf:InverseAutoregressivePosteriorConfig"),
        Lazy("posterior", "two_level", "uncollapse_latents.posteriors.two_level:TwoLevelPosteriorConfig"),
        Lazy("prior", "autoregressive", "uncollapse_latents.priors.autoregressive:AutoregressivePriorConfig"),
        Lazy(
            "prior",
            "autoregressive_conv",
            "uncollapse_latents.priors.autoregressive_conv:AutoregressiveConvPriorConfig",
        ),
        Lazy("prior", "gaussian_mixture", "uncollapse_latents.priors.mixture:GaussianMixturePriorConfig"),
        Lazy("prior", "two_level", "uncollapse_latents.priors.two_level:TwoLevelPriorConfig"),
        Lazy("prior", "vampprior", "uncollapse_latents.priors.vampprior:VampPriorConfig"),
        Lazy("decoder", "hvae_conv", "uncollapse_latents.decoders.hvae_conv:HVAEConvDecoderConfig"),
        Lazy("decoder", "hvae_pixelcnn", "uncollapse_latents.decoders.hvae_pixelcnn:HVAEPixelCNNDecoderConfig"),
        Lazy("estimator", "rate_per_level", "uncollapse_latents.estimators.rate_per_level:RatePerLevelConfig"),
        Lazy("optimizer", "adam_norm_grad", "uncollapse_latents.optimizers:AdamNormGradConfig"),
    ]
