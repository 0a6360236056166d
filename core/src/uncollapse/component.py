"""A component is a pydantic model with a literal ``type``, validated fields, and ``build``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from .errors import ConfigError
from .records import DataSpec

__all__ = ["BuildContext", "ComponentConfig"]


@dataclass(frozen=True)
class BuildContext:
    """What a component may know when it is built; nothing global.

    Args:
        data: Shape and support of the data.
        latent_shape: Shape ``D`` of one latent.
        latent_levels: Dimensions of a hierarchy's levels inside the latent, the bottom one first; empty without one.
        feature_shape: Shape ``H`` of the encoder's features; empty until the encoder is built.
        steps_per_epoch: Optimizer steps of one epoch.
        epochs: Length of the run; None outside a run.
        label_names: Name of every class, in the order of the indices; empty where the data have none.
    """

    data: DataSpec
    latent_shape: tuple[int, ...] = ()
    feature_shape: tuple[int, ...] = ()
    steps_per_epoch: int = 1
    epochs: int | None = None
    latent_levels: tuple[int, ...] = ()
    label_names: tuple[str, ...] = ()

    @property
    def latent_size(self) -> int:
        """Numbers in one latent: the product of ``latent_shape``."""
        size = 1
        for n in self.latent_shape:
            size *= n
        return size

    def levels(self, place: str, top_dim: int | None = None) -> tuple[int, ...]:
        """Return the dimensions of the latent's levels, the bottom one first: those of the posterior, one without a
        hierarchy, or what is left and ``top_dim`` of a latent that a posterior without levels has.

        Args:
            place: Where the part that asks stands in a pipeline; opens the message.
            top_dim: Dimension of the top level, where the part has a field of that name.

        Raises:
            ConfigError: ``top_dim`` is not that of the posterior, or leaves nothing for the bottom level.
        """
        if top_dim is None:
            return self.latent_levels or (self.latent_size,)
        if self.latent_levels and self.latent_levels[-1] != top_dim:
            raise ConfigError(
                f"{place}.top_dim: found {top_dim}, but the top level of the posterior has {self.latent_levels[-1]} "
                "dimensions; leave top_dim out, or make both agree"
            )
        if not self.latent_levels and (len(self.latent_shape) != 1 or top_dim >= self.latent_size):
            raise ConfigError(
                f"{place}.top_dim: a top level of {top_dim} dimensions does not fit into a latent of shape "
                f"{self.latent_shape}; allowed: a flat latent of more than {top_dim} dimensions"
            )
        return self.latent_levels or (self.latent_size - top_dim, top_dim)


class ComponentConfig(BaseModel):
    """Base of every component's config.

    A concrete config has a field ``type: Literal["plugin.name"] = "plugin.name"``, says its source (paper and
    equation) in its docstring, and implements ``build``. Unknown fields are errors; instances are frozen.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    kind: ClassVar[str] = ""
    type: str

    @classmethod
    def type_name(cls) -> str:
        """Return the literal that names this component in a pipeline."""
        return str(cls.model_fields["type"].default)
