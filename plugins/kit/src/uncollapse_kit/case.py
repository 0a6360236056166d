"""One component in one setting: what every check receives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import nn
from uncollapse.capabilities import supports
from uncollapse.config import BuildContext, ComponentConfig
from uncollapse.inference import Inference
from uncollapse.model import LatentVariableModel
from uncollapse.protocols import Batch, Bindable, DataInitialized

from .contexts import Setting
from .reference import reference_inference, reference_model
from .tensors import perturb

__all__ = ["COUNT", "Case", "ModelFactory", "as_type"]

COUNT = 6
"""Examples in the batches that checks use; even, for halves."""

ModelFactory = Callable[[BuildContext], LatentVariableModel]


def as_type(t: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return ``t`` in ``dtype``; tokens stay integers."""
    return t.to(dtype) if t.is_floating_point() else t


@dataclass(frozen=True)
class Case:
    """A config in a setting.

    Args:
        config: The component.
        setting: The world in which it is tried.
        factory: Makes the model that losses, estimators and samplers get; the kit's own by default.
        memory: What is costly to build and does not change, kept from check to check.
    """

    config: ComponentConfig
    setting: Setting
    factory: ModelFactory | None = None
    memory: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def context(self) -> BuildContext:
        """What parts are built with."""
        return self.setting.context

    def build(self, context: BuildContext | None = None) -> Any:
        """Return a fresh object of the component, with torch's default initialisation under the current seed."""
        return cast(Any, self.config).build(context or self.context)

    def model(self, *, echo: bool = False) -> LatentVariableModel:
        """Return the model of the setting; ``echo`` as in :func:`reference_model` where the model is the kit's."""
        return self.factory(self.context) if self.factory else reference_model(self.context, echo=echo)

    def module(
        self, *, seed: int = 0, dtype: torch.dtype = torch.float32, context: BuildContext | None = None
    ) -> nn.Module:
        """Return a fresh module wired and initialised from data as in a model, its parameters moved a little."""
        # Far from the seeds of the setting's data: what a check draws next must not coincide with them.
        torch.manual_seed(1_000 + seed)
        context = context or self.context
        setting = replace(self.setting, context=context)
        part: nn.Module = self.build(context).to(dtype)
        if supports(part, Bindable):
            part.bind(reference_model(context).to(dtype).infer)
        if supports(part, DataInitialized):
            with torch.no_grad():
                part.initialize(*(as_type(t, dtype) for t in self._first_inputs(setting)))
        return perturb(part)

    def _first_inputs(self, setting: Setting) -> list[torch.Tensor]:
        count = 32
        if self.config.kind == "posterior":
            return [setting.h(count)]
        if self.config.kind == "decoder":
            return [setting.z(count), setting.x(count)]
        return [setting.x(count)]

    def batch(self, count: int = COUNT, seed: int = 0) -> Batch:
        """Return labelled examples of the setting."""
        classes = self.setting.data.classes
        return Batch(self.setting.x(count, seed), torch.arange(count) % classes if classes else None)

    def inference(self, model: LatentVariableModel, count: int = COUNT) -> Inference:
        """Return an inference whose moments are leaves that want gradients."""
        generator = torch.Generator().manual_seed(3)
        shape = (count, *self.context.latent_shape)
        mean = torch.randn(shape, generator=generator).requires_grad_()
        logvar = (0.5 * torch.randn(shape, generator=generator) - 0.5).requires_grad_()
        return reference_inference(model, self.setting.x(count), mean, logvar)
