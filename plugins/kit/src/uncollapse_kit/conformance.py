"""The kit's front door: check one component, whatever its kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from pydantic import ValidationError
from uncollapse.config import KINDS, BuildContext, ComponentConfig
from uncollapse.errors import ConfigError

from .case import Case, ModelFactory
from .checks_config import CONFIG_CHECKS, names_source
from .checks_data import DATA_CHECKS
from .checks_data_parts import DECODER_CHECKS, ENCODER_CHECKS
from .checks_latent_parts import MOMENT_TRANSFORM_CHECKS, POSTERIOR_CHECKS, PRIOR_CHECKS
from .checks_likelihoods import LIKELIHOOD_CHECKS
from .checks_losses import OBJECTIVE_CHECKS, REGULARIZER_CHECKS
from .checks_measurement import ESTIMATOR_CHECKS, PROBE_CHECKS, SAMPLER_CHECKS
from .checks_strategies import STRATEGY_CHECKS
from .checks_training import LEARNING_RATE_CHECKS, OBSERVER_CHECKS, OPTIMIZER_CHECKS, SCHEDULE_CHECKS
from .contexts import Setting, settings_for
from .report import Check, Conformance, NotApplicable, Violation, run_checks

__all__ = ["CHECKS", "assert_conforms", "check_component", "example_of"]

CHECKS: dict[str, tuple[Callable[[Case], None], ...]] = {
    "data": DATA_CHECKS,
    "encoder": ENCODER_CHECKS,
    "posterior": POSTERIOR_CHECKS,
    "moment_transform": MOMENT_TRANSFORM_CHECKS,
    "prior": PRIOR_CHECKS,
    "decoder": DECODER_CHECKS,
    "likelihood": LIKELIHOOD_CHECKS,
    "objective": OBJECTIVE_CHECKS,
    "regularizer": REGULARIZER_CHECKS,
    "schedule": SCHEDULE_CHECKS,
    "optimizer": OPTIMIZER_CHECKS,
    "learning_rate": LEARNING_RATE_CHECKS,
    "strategy": STRATEGY_CHECKS,
    "observer": OBSERVER_CHECKS,
    "estimator": ESTIMATOR_CHECKS,
    "probe": PROBE_CHECKS,
    "sampler": SAMPLER_CHECKS,
}
"""The checks of every kind; the first one decides whether a component fits a setting."""


def check_component(
    component: ComponentConfig | type[ComponentConfig],
    *,
    examples: Sequence[ComponentConfig] = (),
    context: BuildContext | None = None,
    model: ModelFactory | None = None,
) -> Conformance:
    """Check a component of any kind against its protocol.

    A component is tried in the small settings of its kind (binary, grey and colour images, vectors, tokens; flat and
    spatial latents) and checked in every one that it fits; in a large one where it fits no small one. It must fit one.

    Args:
        component: A config, or the class of one; a class stands for ``examples``, or for :func:`example_of` it.
        examples: Configs to check in the place of a class.
        context: Check in this context alone: for parts that need shapes the kit does not have.
        model: Makes the model that objectives, regularizers, estimators, samplers and observers are given; by default
            a linear one with a Gaussian posterior.

    Returns:
        Every check with its outcome; ``.passed`` says whether all is well.
    """
    if isinstance(component, ComponentConfig):
        chosen: Sequence[ComponentConfig] = (component,)
    elif examples:
        chosen = examples
    else:
        try:
            chosen = (example_of(component),)
        except ConfigError as error:
            return Conformance(_name(component), (Check("has_example", "failed", str(error)),))
    checks: list[Check] = []
    for number, config in enumerate(chosen, start=1):
        where = f"example {number}" if len(chosen) > 1 else ""
        checks += run_checks(CONFIG_CHECKS, config, where)
        checks += _check_kind(config, context, model, where)
    cls = component if isinstance(component, type) else type(component)
    return Conformance(_name(cls), tuple(checks))


def assert_conforms(
    component: ComponentConfig | type[ComponentConfig],
    *,
    examples: Sequence[ComponentConfig] = (),
    context: BuildContext | None = None,
    model: ModelFactory | None = None,
) -> None:
    """Check a component as :func:`check_component` does, in a test.

    Raises:
        AssertionError: Something failed; the message names the component and lists every failure.
    """
    found = check_component(component, examples=examples, context=context, model=model)
    if not found.passed:
        lines = "\n".join(f"  {check}" for check in found.failures)
        raise AssertionError(f"{found.component} does not conform:\n{lines}")


def example_of(component: type[ComponentConfig]) -> ComponentConfig:
    """Return a config of the class: the first of ``Field(examples=[...])`` for fields that have them, else defaults.

    A required field needs examples. One with a default may have them where the default is too much for the kit: the
    network of a paper, say.

    Raises:
        ConfigError: A required field has no example, or the examples do not make a valid config.
    """
    fields = component.model_fields
    silent = [name for name, field in fields.items() if field.is_required() and not field.examples]
    if silent:
        raise ConfigError(
            f"{_name(component)}: {', '.join(silent)} is required; pass an instance, "
            f"{component.__name__}({silent[0]}=...), or give the field Field(examples=[...])"
        )
    try:
        return component.model_validate({name: field.examples[0] for name, field in fields.items() if field.examples})
    except ValidationError as error:
        raise ConfigError(f"{_name(component)}: its examples do not make a valid config: {error}") from error


def _name(component: type[ComponentConfig]) -> str:
    return f"{component.kind} {component.type_name()!r} ({component.__module__}.{component.__qualname__})"


def _check_kind(
    config: ComponentConfig, context: BuildContext | None, model: ModelFactory | None, where: str
) -> list[Check]:
    if config.kind not in CHECKS:
        return [Check("kind", "failed", f"expected one of {', '.join(KINDS)}, found {config.kind!r}", where)]
    if context is not None:
        groups: tuple[tuple[Setting, ...], ...] = ((Setting("the context given", context),),)
    else:
        groups = settings_for(config)
    checks: list[Check] = []
    refusals: list[str] = []
    fitting: Case | None = None
    for settings in groups:
        for setting in settings:
            if fitting and settings is not groups[0]:
                continue
            case = Case(config, setting, model)
            place = ", ".join(p for p in (where, setting.name) if p)
            refusal = _refusal(case)
            if refusal:
                refusals.append(f"{setting.name}: {refusal}" if setting.name else refusal)
                checks.append(Check("fits_setting", "not applicable", refusal, place))
                continue
            fitting = case
            first, *others = CHECKS[config.kind]
            checks += run_checks((first,), case, place)
            if checks[-1].outcome != "not applicable":
                checks += run_checks(others, case, place)
    if fitting is None:
        checks.append(Check("fits_a_setting", "failed", "it could be used in none: " + "; ".join(refusals), where))
    checks += run_checks((docstring_names_source,), fitting or Case(config, groups[0][0], model), where)
    return checks


def _refusal(case: Case) -> str:
    """Return why a component cannot be used in a setting, or the empty string where it can, rightly or wrongly."""
    supports: frozenset[str] = getattr(case.config, "supports", frozenset())
    if supports and case.setting.data.support not in supports:
        return f"it takes {', '.join(sorted(supports))}, not {case.setting.data.support}"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            CHECKS[case.config.kind][0](case)
        except (Violation, NotApplicable):
            return ""
        except Exception as error:
            # Refusing a setting is a part's right, by whatever error; one that refuses all of them fails.
            return f"{type(error).__name__}: {error}"
    return ""


def docstring_names_source(case: Case) -> None:
    """The config, or what it builds, says where it comes from: an address, or an equation or section of a paper."""
    documents: list[Any] = [type(case.config)]
    if case.config.kind not in ("data", "optimizer"):
        try:
            documents.append(type(cast(Any, case.config).build(case.context)))
        except Exception:
            documents = documents[:1]
    own = [d for d in documents if d.__module__.partition(".")[0] != "torch"]
    if not any(names_source(d.__doc__) for d in own):
        names = " and ".join(d.__qualname__ for d in own)
        raise Violation(f"expected a source (address, equation, section) in the docstring of {names}, found none")
