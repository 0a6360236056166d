"""The kit's front door, and what it asks of configs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from pydantic import ConfigDict, Field, field_serializer
from torch import Tensor, nn
from uncollapse.config import BuildContext, EncoderConfig, PriorConfig, ScheduleConfig
from uncollapse.distributions import DiagonalNormal
from uncollapse.encoders.mlp import MLPEncoderConfig
from uncollapse.errors import ConfigError
from uncollapse.inference import Inference
from uncollapse.objectives import ELBO
from uncollapse.protocols import Batch, DataSpec, Progress
from uncollapse.schedules.schedules import ConstantSchedule
from uncollapse_kit import (
    Conformance,
    assert_conforms,
    check_component,
    example_of,
    reference_inference,
    reference_model,
)
from uncollapse_kit.checks_config import names_source
from uncollapse_kit.contexts import examples_of, outside_support
from uncollapse_kit.reference import shares_of


class SoundConfig(ScheduleConfig):
    """A constant: Higgins et al. (2017), eq. 4."""

    type: Literal["sound"] = "sound"
    value: float = 1.0

    def epochs(self) -> float:
        return 0.0

    def build(self, context: BuildContext) -> Any:
        return ConstantSchedule(self.value)


class IgnoresMisspelling(SoundConfig):
    """As above, https://example.org."""

    model_config = ConfigDict(extra="ignore")


class Mutable(SoundConfig):
    """As above, https://example.org."""

    model_config = ConfigDict(frozen=False)


class RoundsItsValue(SoundConfig):
    """As above, https://example.org."""

    value: float = 0.123456

    @field_serializer("value")
    def _rounded(self, value: float) -> float:
        return round(value, 2)


class Capitals(SoundConfig):
    """As above, https://example.org."""

    type: Literal["Sound"] = "Sound"  # type: ignore[assignment]


class AnyType(SoundConfig):
    """As above, https://example.org."""

    type: str = "sound"  # type: ignore[assignment]


class NoSource(SoundConfig):
    """A weight that never changes."""


class NeedsValue(SoundConfig):
    """As above, https://example.org."""

    value: float = Field()


class HasExample(SoundConfig):
    """As above, https://example.org."""

    value: float = Field(examples=[0.25])


class HasSmallerExample(SoundConfig):
    """As above, https://example.org."""

    value: float = Field(1.0, examples=[0.5])


class WrongExample(SoundConfig):
    """As above, https://example.org."""

    value: float = Field(gt=0, examples=[-1.0])


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (SoundConfig, set()),
        (IgnoresMisspelling, {"extra_field_refused"}),
        (Mutable, {"frozen"}),
        (RoundsItsValue, {"json_round_trip"}),
        (Capitals, {"type_name"}),
        (AnyType, {"type_name"}),
        (NoSource, {"docstring_names_source"}),
        (NeedsValue, {"has_example"}),
        (HasExample, set()),
        (WrongExample, {"has_example"}),
    ],
)
def test_config(config: type[ScheduleConfig], expected: set[str]) -> None:
    assert {c.name for c in check_component(config).failures} == expected


def test_assertion_names_the_component_and_every_failure() -> None:
    class Both(NoSource):
        model_config = ConfigDict(frozen=False)

    Both.__doc__ = "Nothing."
    with pytest.raises(AssertionError) as caught:
        assert_conforms(Both())
    text = str(caught.value)
    assert "schedule 'sound'" in text
    assert "Both" in text
    assert "failed: frozen: expected an error when value is assigned; keep frozen=True" in text
    assert "failed: docstring_names_source" in text
    assert "passed" not in text


def test_report_of_a_sound_component() -> None:
    report = check_component(SoundConfig(value=0.5))
    assert isinstance(report, Conformance)
    assert report.passed
    assert [c.name for c in report.checks] == [
        "json_round_trip",
        "extra_field_refused",
        "frozen",
        "type_name",
        "schedule_finite",
        "schedule_length",
        "schedule_final_value",
        "schedule_stateless",
        "docstring_names_source",
    ]
    assert str(report).splitlines()[0].endswith(": 0 of 9 checks failed")


def test_examples_are_all_checked_and_told_apart() -> None:
    report = check_component(SoundConfig, examples=[SoundConfig(value=1), SoundConfig.model_construct(value="x")])
    assert {c.where for c in report.checks} == {"example 1", "example 2"}
    assert {c.where for c in report.failures} == {"example 2"}


def test_example_of_a_class() -> None:
    assert example_of(HasExample).value == 0.25  # type: ignore[attr-defined]
    assert example_of(HasSmallerExample).value == 0.5  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"value is required; pass an instance, NeedsValue\(value=...\)"):
        example_of(NeedsValue)


def test_random_state_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    check_component(MLPEncoderConfig(hidden=(8,)))
    assert torch.equal(before, torch.random.get_rng_state())


class OnlyLarge(EncoderConfig):
    """Needs 28x28 binary images: https://example.org."""

    type: Literal["only_large"] = "only_large"
    shape: tuple[int, ...] = (1, 28, 28)

    def build(self, context: BuildContext) -> nn.Module:
        if context.data.event_shape != self.shape:
            raise ConfigError(f"model.encoder: needs {self.shape}")
        return MLPEncoderConfig(hidden=(4,)).build(context)


def test_a_large_setting_is_used_where_no_small_one_fits() -> None:
    report = check_component(OnlyLarge())
    assert report.passed
    assert {c.where for c in report.checks if c.name == "encoder_shape"} == {"binary image 1x28x28"}


def test_a_part_that_fits_nothing_fails_and_fits_a_context_that_is_given() -> None:
    odd = OnlyLarge(shape=(2, 3, 5))
    (failure,) = [c for c in check_component(odd).failures if c.name == "fits_a_setting"]
    assert "binary image 1x8x8: ConfigError: model.encoder: needs (2, 3, 5)" in failure.reason
    context = BuildContext(DataSpec((2, 3, 5), "real"), latent_shape=(2,))
    assert_conforms(odd, context=context)


class Initialised(nn.Module):
    """A prior that wants the inference network and data, and counts the calls."""

    def __init__(self, latent_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.full(latent_shape, torch.nan))

    def bind(self, infer: Callable[[Tensor], Any]) -> None:
        self.infer = infer

    def initialize(self, x: Tensor) -> None:
        self.mean.copy_(self.infer(x).mean.mean(0))

    def forward(self) -> DiagonalNormal:
        return DiagonalNormal(self.mean, torch.zeros_like(self.mean), self.mean.dim())


class InitialisedConfig(PriorConfig):
    """A Gaussian about the mean posterior: https://example.org."""

    type: Literal["initialised"] = "initialised"

    def build(self, context: BuildContext) -> nn.Module:
        return Initialised(context.latent_shape)


def test_parts_are_bound_and_initialised_before_they_are_checked() -> None:
    assert_conforms(InitialisedConfig())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Kingma and Welling (2014), eq. 3.", True),
        ("See https://arxiv.org/abs/1312.6114.", True),
        ("Section 4.1 of the paper.", True),
        ("Appendix C has it.", True),
        ("Ma et al. (2019)", True),
        ("Masked convolutions (van den Oord et al., 2016).", True),
        ("A very good prior with 2014 components.", False),
        ("Sections of the vector are equal, as in a section of the line.", False),
        (None, False),
    ],
)
def test_sources(text: str | None, expected: bool) -> None:
    assert names_source(text) is expected


# ---------------------------------------------------------------------------------------------- examples, the reference


@pytest.mark.parametrize("support", ["binary", "unit_interval", "bytes", "real", "tokens"])
def test_examples_lie_in_their_support(support: Any) -> None:
    data = DataSpec((3, 4), support, vocabulary_size=7)
    x = examples_of(data, 5)
    assert x.shape == (5, 3, 4)
    assert outside_support(x, data) == ""
    assert torch.equal(x, examples_of(data, 5))
    assert not torch.equal(x, examples_of(data, 5, seed=1))
    assert outside_support(x.float() * torch.nan, data) == "some values are not finite"


@pytest.mark.parametrize(
    ("support", "value"), [("binary", 0.5), ("unit_interval", 1.5), ("bytes", 0.001), ("tokens", 7), ("tokens", -1)]
)
def test_values_outside_the_support_are_found(support: Any, value: float) -> None:
    assert outside_support(torch.tensor([0.0, value]), DataSpec((2,), support, vocabulary_size=7))


CONTEXT = BuildContext(DataSpec((1, 4, 4), "binary"), latent_shape=(3,))


def test_echo_noise_stays_with_its_examples() -> None:
    model, x = reference_model(CONTEXT, echo=True), examples_of(CONTEXT.data, 6)
    order = torch.randperm(6)
    here, there = model(x, samples=4), model(x[order], samples=4)
    torch.testing.assert_close(there.z, here.z[:, order])
    assert not torch.allclose(here.z[0], here.z[1])
    loss = ELBO()(model, Batch(x), Progress())
    torch.testing.assert_close(loss.total, ELBO()(model, Batch(x[order]), Progress()).total)


def test_shares_gather_the_global_batch_with_gradients() -> None:
    model, x = reference_model(CONTEXT), examples_of(CONTEXT.data, 6)
    mean, logvar = torch.randn(6, 3, requires_grad=True), torch.zeros(6, 3, requires_grad=True)
    whole: Inference = reference_inference(model, x, mean, logvar)
    shares = shares_of(model, whole, processes=3)
    assert [len(s.x) for s in shares] == [2, 2, 2]
    torch.testing.assert_close(torch.cat([s.distortion for s in shares]), whole.distortion)
    torch.testing.assert_close(torch.cat([s.rate() for s in shares]), whole.rate())
    for share in shares:
        gathered = share.gathered()
        assert gathered.base is not None
        assert torch.equal(gathered.base.mean, mean)
        assert torch.equal(gathered.z, whole.z)
        (gradient,) = torch.autograd.grad(gathered.base.mean.sum(), [mean])
        assert bool((gradient == 1).all())


# -------------------------------------------------------------------------------------------------------- pytest plugin


def test_fixture(assert_conforms: Callable[..., None]) -> None:
    assert_conforms(SoundConfig())
    with pytest.raises(AssertionError, match="NoSource"):
        assert_conforms(NoSource())


def test_pytest_plugin_is_light() -> None:
    code = "import sys, uncollapse_kit.pytest_plugin; print('torch' in sys.modules, 'pydantic' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["False", "False"]
