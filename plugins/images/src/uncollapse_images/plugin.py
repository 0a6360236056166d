"""What the distribution brings; each part is imported when a pipeline names it."""

from __future__ import annotations

from uncollapse.plugins import Lazy, SampleFormat, hookimpl

__all__ = ["uncollapse_components", "uncollapse_sample_formats"]

uncollapse_api_version = 1


@hookimpl
def uncollapse_components() -> list[Lazy]:
    """Return the parts."""
    return [
        Lazy("data", "mnist", "uncollapse_images.data.mnist:MNISTConfig"),
        Lazy("data", "fashion_mnist", "uncollapse_images.data.mnist:FashionMNISTConfig"),
        Lazy("data", "cifar10", "uncollapse_images.data.cifar10:CIFAR10Config"),
        Lazy("data", "omniglot", "uncollapse_images.data.omniglot:OmniglotConfig"),
        Lazy("data", "image_folder", "uncollapse_images.data.image_folder:ImageFolderConfig"),
        Lazy("encoder", "resnet", "uncollapse_images.encoders.resnet:ResNetEncoderConfig"),
        Lazy("encoder", "densenet", "uncollapse_images.encoders.densenet:DenseNetEncoderConfig"),
        Lazy("encoder", "gated_conv", "uncollapse_images.encoders.gated_conv:GatedConvEncoderConfig"),
        Lazy("encoder", "hvae_conv", "uncollapse_images.encoders.gated_conv:TwoTowerConvEncoderConfig"),
        Lazy("decoder", "pixelcnn", "uncollapse_images.decoders.pixelcnn:PixelCNNDecoderConfig"),
        Lazy("decoder", "gated_pixelcnn", "uncollapse_images.decoders.gated_pixelcnn:GatedPixelCNNDecoderConfig"),
        Lazy("decoder", "resnet", "uncollapse_images.decoders.resnet:ResNetDecoderConfig"),
        Lazy("decoder", "pixelcnnpp", "uncollapse_images.decoders.pixelcnnpp:PixelCNNPPDecoderConfig"),
        Lazy("likelihood", "logistic", "uncollapse_images.likelihoods.logistic:LogisticLikelihoodConfig"),
        Lazy(
            "likelihood",
            "logistic_mixture",
            "uncollapse_images.likelihoods.logistic_mixture:LogisticMixtureLikelihoodConfig",
        ),
    ]


@hookimpl
def uncollapse_sample_formats() -> list[SampleFormat]:
    """Return the format for data that can be looked at."""
    from .pictures import PICTURES

    return [PICTURES]
