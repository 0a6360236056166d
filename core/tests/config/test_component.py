"""Component configs: fields that take any installed component, and the messages when they cannot."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import pytest
import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from uncollapse.config import (
    KINDS,
    BuildContext,
    ComponentConfig,
    DecoderConfig,
    Installed,
    PriorConfig,
    ScheduleConfig,
)
from uncollapse.config.pipeline import TrainingConfig, schedules_in
from uncollapse.decoders.mlp import MLPDecoderConfig
from uncollapse.likelihoods.likelihoods import BernoulliLikelihoodConfig, CategoricalLikelihoodConfig
from uncollapse.objectives.elbo import ELBOConfig
from uncollapse.optimizers import AdamConfig
from uncollapse.plugins import registry
from uncollapse.posteriors.gaussian import GaussianPosteriorConfig
from uncollapse.priors.standard_normal import StandardNormalPriorConfig
from uncollapse.protocols import DataSpec
from uncollapse.schedules.schedules import ConstantScheduleConfig, LinearScheduleConfig


class Holder(BaseModel):
    model_config = ConfigDict(validate_default=True)

    prior: Annotated[PriorConfig, Installed("prior")] = Field(default="standard_normal")
    weight: Annotated[ScheduleConfig, Installed("schedule", number="constant")] = Field(default=1)
    others: tuple[Annotated[ScheduleConfig, Installed("schedule")], ...] = ()


def message(**fields: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        Holder.model_validate(fields)
    (error,) = caught.value.errors()
    return f"{'.'.join(map(str, error['loc']))}: {error['msg']}"


# ------------------------------------------------------------------------------------------------------------ accepted


@pytest.mark.parametrize(
    "value",
    ["standard_normal", {"type": "standard_normal"}, StandardNormalPriorConfig()],
    ids=["name", "map", "config"],
)
def test_component_by_name_mapping_or_config(value: Any) -> None:
    assert Holder(prior=value).prior == StandardNormalPriorConfig()


def test_default_is_resolved_like_any_value() -> None:
    assert Holder().prior == StandardNormalPriorConfig()
    assert Holder().weight == ConstantScheduleConfig(value=1.0)


@pytest.mark.parametrize("value", [0, 2, 0.5])
def test_number_stands_for_the_type_that_the_field_names(value: float) -> None:
    assert Holder(weight=value).weight == ConstantScheduleConfig(value=value)  # type: ignore[arg-type]


def test_fields_of_the_component_are_validated_at_their_place() -> None:
    with pytest.raises(ValidationError) as caught:
        Holder(weight={"type": "linear", "until_epoch": -1, "ende": 2})  # type: ignore[arg-type]
    found = {".".join(map(str, e["loc"])): e["type"] for e in caught.value.errors()}
    assert found == {"weight.until_epoch": "greater_than", "weight.ende": "extra_forbidden"}


def test_holder_goes_through_json() -> None:
    holder = Holder(weight={"type": "linear", "until_epoch": 3})  # type: ignore[arg-type]
    text = holder.model_dump_json()
    assert json.loads(text)["weight"] == {"type": "linear", "until_epoch": 3.0, "start": 0.0, "end": 1.0, "per": "step"}
    assert Holder.model_validate_json(text) == holder


# ------------------------------------------------------------------------------------------------------------- refused

PRIORS = ", ".join(registry().names("prior"))
SCHEDULES = ", ".join(registry().names("schedule"))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"prior": "standard_norml"},
            f"prior: unknown prior type 'standard_norml', did you mean 'standard_normal'?; installed: {PRIORS}",
        ),
        ({"prior": {"type": "zebra"}}, f"prior: unknown prior type 'zebra'; installed: {PRIORS}"),
        ({"prior": {"type": 3}}, f"prior: unknown prior type 3; installed: {PRIORS}"),
        ({"prior": {"sigma": 1}}, f"prior: 'type' is missing; allowed: {PRIORS}"),
        ({"prior": 3}, f"prior: expected a mapping with 'type' (one of: {PRIORS}), found 3 (int)"),
        ({"prior": None}, f"prior: expected a mapping with 'type' (one of: {PRIORS}), found None (NoneType)"),
        ({"prior": "mlp"}, f"prior: unknown prior type 'mlp'; installed: {PRIORS}"),
        ({"weight": True}, f"weight: expected a mapping with 'type' (one of: {SCHEDULES}), found True (bool)"),
        ({"others": [0.5]}, f"others.0: expected a mapping with 'type' (one of: {SCHEDULES}), found 0.5 (float)"),
    ],
)
def test_message(fields: dict[str, Any], expected: str) -> None:
    assert message(**fields) == expected


def test_config_of_another_kind_is_refused() -> None:
    assert message(prior=AdamConfig()).startswith("prior: expected a mapping with 'type'")


# ---------------------------------------------------------------------------------------------------------- the configs


@pytest.mark.parametrize("config", registry().components(), ids=lambda c: f"{c.kind}:{c.type_name()}")
def test_every_component_refuses_unknown_fields_and_is_frozen(config: type[ComponentConfig]) -> None:
    assert config.model_config.get("extra") == "forbid"
    assert config.model_config.get("frozen") is True
    assert config.model_config.get("allow_inf_nan") is False
    assert config.kind in KINDS
    assert config.type_name() == config.model_fields["type"].default


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_are_finite(value: float) -> None:
    with pytest.raises(ValidationError):
        ConstantScheduleConfig(value=value)


def test_schema_of_a_field_names_its_kind() -> None:
    schema = TypeAdapter(Holder).json_schema()["properties"]
    assert schema["prior"]["x-uncollapse-kind"] == "prior"
    assert "x-number" not in schema["prior"]
    assert schema["weight"]["x-uncollapse-kind"] == "schedule"
    assert schema["weight"]["x-number"] is True


@pytest.mark.parametrize(("latent", "size"), [((), 1), ((7,), 7), ((4, 2, 3), 24)])
def test_size_of_a_latent(latent: tuple[int, ...], size: int) -> None:
    assert BuildContext(DataSpec((1,), "real"), latent_shape=latent).latent_size == size


@pytest.mark.parametrize(("latent", "shape"), [(5, (5,)), ([4, 2, 2], (4, 2, 2))])
def test_posterior_says_its_latent_shape(latent: Any, shape: tuple[int, ...]) -> None:
    assert GaussianPosteriorConfig(latent_dim=latent).latent_shape == shape


def test_decoder_takes_what_its_likelihood_takes() -> None:
    assert MLPDecoderConfig().supports == BernoulliLikelihoodConfig.supports
    assert MLPDecoderConfig(likelihood=CategoricalLikelihoodConfig()).supports == {"binary", "bytes"}

    class Plain(DecoderConfig):
        """Without a likelihood."""

        type: Literal["plain"] = "plain"

        def build(self, context: BuildContext) -> torch.nn.Module:
            return torch.nn.Identity()

    assert Plain().supports == frozenset()


# ------------------------------------------------------------------------------------------------------ in the pipeline


def test_default_optimizer_is_looked_up() -> None:
    assert TrainingConfig().optimizer == AdamConfig()
    assert TrainingConfig.model_fields["optimizer"].default == "adam"


def test_schedules_are_found_with_their_places() -> None:
    holder = Holder(weight=ELBOConfig().rate_weight, others=({"type": "linear", "until_epoch": 2},))  # type: ignore[arg-type]

    class Outer(BaseModel):
        objective: ELBOConfig = ELBOConfig()
        holders: tuple[Holder, ...] = (holder,)

    found = dict(schedules_in(Outer()))
    assert set(found) == {"objective.rate_weight", "holders.0.weight", "holders.0.others.0"}
    assert found["holders.0.others.0"] == LinearScheduleConfig(until_epoch=2)
