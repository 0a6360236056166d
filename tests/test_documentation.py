"""What is public is documented, and the generated pages say what the sources say."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from torch import Tensor
from torch.distributions import Distribution
from uncollapse.config import KINDS, ComponentConfig
from uncollapse.config.describe import describe_fields, sections_of
from uncollapse.config.pipeline import PipelineConfig
from uncollapse.errors import ConfigError
from uncollapse.plugins import registry
from uncollapse.protocols import Loss, Penalty

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS / "extensions"))
pytest.importorskip("sphinx", reason="the documentation is built with the extra docs")

import api_pages  # noqa: E402
import component_pages  # noqa: E402

COMPONENTS = registry().components()
by_type = pytest.mark.parametrize("config", COMPONENTS, ids=lambda c: f"{c.kind}:{c.type_name()}")

# ---------------------------------------------------------------------------------------------------------- components

SOURCE = re.compile(r"https?://|\b(19|20)\d\d\b")
FORMULA = re.compile(
    r"``[^`]*(\s[=<>+\-*/~]\s|\*\*|log |KL\(|sum|mean|N\(|E_|E |exp\(|sqrt|max\(|sigmoid|softmax)[^`]*``"
)
MATHEMATICS = {
    "posterior",
    "moment_transform",
    "prior",
    "likelihood",
    "objective",
    "regularizer",
    "schedule",
    "optimizer",
    "learning_rate",
    "strategy",
    "estimator",
    "sampler",
}
"""Kinds whose pages show an equation; data, networks and probes are described in words."""


def documentation_of(config: type[ComponentConfig]) -> str:
    """Return what a component's page says beside its fields."""
    product = component_pages.product_of(config)
    texts = [config.__doc__ or ""]
    if product is not None:
        texts += [product.__doc__ or "", *(vars(product)[m].__doc__ or "" for m in ("forward", "__call__") if m in vars(product))]  # fmt: skip
    return "\n".join(texts)


def undescribed(model: type[BaseModel]) -> list[str]:
    models = [model, *sections_of(model)]
    return [f"{m.__name__}.{field.name}" for m in models for field in describe_fields(m) if not field.meaning]


@pytest.mark.parametrize("model", [PipelineConfig, *COMPONENTS], ids=lambda m: m.__name__)
def test_every_field_is_described(model: type[BaseModel]) -> None:
    assert undescribed(model) == []


@by_type
def test_every_component_names_its_source_and_shows_its_equation(config: type[ComponentConfig]) -> None:
    assert SOURCE.search(config.__doc__ or ""), "its docstring names neither a year nor an address"
    if config.kind in MATHEMATICS:
        assert FORMULA.search(documentation_of(config)), (
            "neither its docstring nor that of what it builds has a formula"
        )


@by_type
def test_every_component_s_page_has_its_fields_and_an_example_that_is_valid(config: type[ComponentConfig]) -> None:
    page = component_pages.page_of(config)
    assert inspect.cleandoc(config.__doc__ or "") in page
    for field in describe_fields(config):
        assert f"   * - ``{field.name}``\n     - ``{field.allowed}``" in page
        assert f"     - ``{field.default}``\n" in page
    use, language = component_pages.snippet(config)
    assert use.splitlines()[0] in page
    made = config.model_validate(component_pages.example(config))
    if language == "yaml":
        assert nested(yaml.safe_load(use), {"type": config.type_name(), **component_pages.example(config)})
    assert made.type == config.type_name()


def nested(node: Any, wanted: Any) -> bool:
    """Return whether ``wanted`` stands somewhere inside ``node``."""
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return node == wanted or any(nested(item, wanted) for item in inner)


def test_every_kind_has_a_place_in_a_pipeline_and_a_page() -> None:
    assert component_pages.PLACES.keys() == KINDS.keys() - {"sampler"}
    written = component_pages.pages()
    assert {f"{c.kind}/{c.type_name()}.rst" for c in COMPONENTS} < written.keys()
    assert {f"{kind}/index.rst" for kind in KINDS} < written.keys()


def test_a_component_without_documentation_is_seen() -> None:
    class Silent(ComponentConfig):
        type: str = "silent"
        size: int

    assert undescribed(Silent) == ["Silent.size"]
    with pytest.raises(ConfigError, match="has no Field"):
        component_pages.example(Silent)
    assert not FORMULA.search("A penalty on ``q`` and ``[B, D]``.")
    assert not SOURCE.search("A penalty that we like.")


# -------------------------------------------------------------------------------------------------------- public names

SHAPE = re.compile(r"``[^`]*\[[^\]`]*\][^`]*``|\bscalar|\b(any|same) shape|elementwise|\bnumbers?\b|batch ``|event ``")
UNIT = re.compile(r"\bnats\b|\bbits\b|accuracy|\bunit\b")
LOSS = re.compile(
    r"\b(loss|divergence|entropy|rate|penalty|log[- ]?(density|densities|likelihood)|bound|distortion|discrepancy)\b"
)
TENSORS = ("Tensor", "Distribution")


def methods_of(value: type) -> Iterator[Callable[..., Any]]:
    for name, member in vars(value).items():
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if inspect.isfunction(function) and (not name.startswith("_") or name == "__call__"):
            yield function


def speaks_of(function: Callable[..., Any], names: tuple[str, ...], *, returned: bool = False) -> bool:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return False
    return any(n in str(signature.return_annotation if returned else signature) for n in names)


def gaps(value: Any) -> list[str]:
    """Return what a public class or function does not say: a docstring, the shapes, the units."""
    said = value.__doc__ or ""
    if not said.strip() or said == object.__doc__:
        return ["docstring"]
    functions = list(methods_of(value)) if inspect.isclass(value) else [value]
    if inspect.isclass(value):
        if issubclass(value, ComponentConfig | Exception):
            return []
        said = "\n".join([said, *(f.__doc__ or "" for f in functions)])
    found = []
    if any(speaks_of(f, TENSORS) for f in functions) and not SHAPE.search(said):
        found.append("shapes")
    loses = any(speaks_of(f, ("Penalty", "Loss"), returned=True) for f in functions)
    if not inspect.isclass(value) and speaks_of(value, ("Tensor",), returned=True):
        loses = LOSS.search(said.split("\n\n")[0]) is not None
        said += sys.modules[value.__module__].__doc__ or ""
    if loses and not UNIT.search(said):
        found.append("units")
    return found


def ours() -> Iterator[api_pages.PublicName]:
    return (p for p in api_pages.public_names() if p.value in COMPONENTS or api_pages._home(p).startswith("uncollapse"))


@pytest.mark.parametrize("module", api_pages.public_modules())
def test_every_public_name_says_what_it_is_its_shapes_and_units(module: str) -> None:
    assert (sys.modules[module].__doc__ or "").strip()
    missing = {}
    for public in (p for p in ours() if p.module == module):
        if inspect.isclass(public.value) or api_pages.is_function(public.value):
            lacks = gaps(public.value)
        else:
            lacks = [] if api_pages.docstring_of_data(module, public.name) else ["docstring below the assignment"]
        if lacks:
            missing[public.name] = ", ".join(lacks)
    assert missing == {}


def silent(x: Tensor) -> Tensor: ...  # type: ignore[empty-body]
def shapeless(x: Tensor) -> Tensor:  # type: ignore[empty-body]
    """Return a thing."""


def unitless(q: Distribution) -> Tensor:  # type: ignore[empty-body]
    """Return the divergence ``[B]``."""


def whole(q: Distribution) -> Tensor:  # type: ignore[empty-body]
    """Return the divergence in nats, ``[B]``."""


class Costly:
    """A penalty on ``z [B, D]``."""

    def __call__(self, z: Tensor) -> Penalty: ...  # type: ignore[empty-body]


class Lossy:
    """A loss without words for its tensors, in nats."""

    def __call__(self, z: Tensor) -> Loss: ...  # type: ignore[empty-body]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (silent, ["docstring"]),
        (shapeless, ["shapes"]),
        (unitless, ["units"]),
        (whole, []),
        (Costly, ["units"]),
        (Lossy, ["shapes"]),
    ],
)
def test_what_is_not_said_is_seen(value: Any, expected: list[str]) -> None:
    assert gaps(value) == expected


def test_every_public_name_has_a_page() -> None:
    pages = api_pages.pages()
    for public in ours():
        assert public.name in pages[f"{public.module}.rst"]
    assert {"uncollapse.protocols", "uncollapse_mae.functional"} < set(api_pages.public_modules())
