"""A page for every installed component, written from its config before the documentation is read.

Nothing here is kept by hand: fields, bounds and defaults are the config's, source and formulas those of its docstring
and of the class that it builds.
"""

from __future__ import annotations

import inspect
import sys
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel
from uncollapse.config import KINDS, BuildContext, ComponentConfig, Installed
from uncollapse.config.describe import describe_fields, sections_of
from uncollapse.config.pipeline import PipelineConfig
from uncollapse.errors import ConfigError
from uncollapse.plugins import registry
from uncollapse.protocols import DataSpec
from writing import escape, heading, table, write_pages

if TYPE_CHECKING:
    from sphinx.application import Sphinx

FOLDER = "components"

PLURALS = {"data": "data sources", "posterior": "posteriors", "strategy": "strategies"}

PLACES = {
    "data": "data: {}",
    "encoder": "model:\n  encoder: {}",
    "posterior": "model:\n  posterior: {}",
    "moment_transform": "model:\n  posterior:\n    type: gaussian\n    latent_dim: 16\n    moments:\n      - {}",
    "prior": "model:\n  prior: {}",
    "decoder": "model:\n  decoder: {}",
    "likelihood": "model:\n  decoder:\n    type: mlp\n    likelihood: {}",
    "objective": "objective: {}",
    "regularizer": "regularizers:\n  - {}",
    "schedule": "objective:\n  type: elbo\n  rate_weight: {}",
    "optimizer": "training:\n  optimizer: {}",
    "learning_rate": "training:\n  learning_rate: {}",
    "strategy": "training:\n  strategy: {}",
    "observer": "training:\n  observers:\n    - {}",
    "estimator": "evaluation:\n  estimators:\n    - {}",
    "probe": "evaluation:\n  probes:\n    - {}",
}
"""Where a component of each kind stands in a pipeline. A sampler stands in none: a command names it."""


def plural(kind: str) -> str:
    """Return the heading of a kind: ``learning_rate`` gives ``learning rates``."""
    return PLURALS.get(kind, f"{kind.replace('_', ' ')}s")


def example(config: type[ComponentConfig]) -> dict[str, Any]:
    """Return the shortest mapping that makes a component: its type and examples of the fields that are required.

    Raises:
        ConfigError: A required field has no example.
    """
    required = {name: field for name, field in config.model_fields.items() if name != "type" and field.is_required()}
    silent = [name for name, field in required.items() if not field.examples]
    if silent:
        raise ConfigError(f"{config.__qualname__}.{silent[0]} is required and has no Field(examples=[...])")
    values = {name: (field.examples or [None])[0] for name, field in required.items()}
    return {"type": config.type_name(), **{n: list(v) if isinstance(v, tuple) else v for n, v in values.items()}}


def snippet(config: type[ComponentConfig]) -> tuple[str, str]:
    """Return how a component is used, and in which language: YAML of a pipeline, or a command line for samplers."""
    written = yaml.safe_dump(example(config), default_flow_style=True, sort_keys=False, width=10_000).strip()
    if config.kind == "sampler":
        return f"uncollapse sample runs/digits --sampler '{written}'", "console"
    return PLACES[config.kind].format(written), "yaml"


def product_of(config: type[ComponentConfig]) -> type | None:
    """Return the class that a config builds where it is one of uncollapse or of a plugin, else None."""
    stated = inspect.signature(config.build).return_annotation  # type: ignore[attr-defined]
    found = getattr(sys.modules[config.__module__], stated, None) if isinstance(stated, str) else stated
    if config.kind == "schedule":
        # All promise the protocol; which class it is, an instance tells.
        found = type(config.model_validate(example(config)).build(BuildContext(DataSpec((1,), "real"))))  # type: ignore[attr-defined]
    ours = inspect.isclass(found) and found.__module__.startswith("uncollapse")
    return found if ours else None


def page_of(config: type[ComponentConfig]) -> str:
    """Return a component's page, reStructuredText."""
    home = registry().home(config)
    brought = "the core" if home.name == "core" else f"the plugin ``{home.name}``"
    use, language = snippet(config)
    parts = [
        heading(config.type_name(), "="),
        f"A component of the kind :doc:`{config.kind.replace('_', ' ')} </{FOLDER}/{config.kind}/index>`, brought by "
        f"{brought} (``{home.distribution}`` {home.version}).",
        inspect.cleandoc(config.__doc__ or ""),
        f".. code-block:: {language}\n\n" + "\n".join(f"   {line}" for line in use.splitlines()),
        heading("Fields", "-"),
        fields_of(config),
    ]
    for section in sections_of(config):
        parts += [heading(section.__name__, "~"), inspect.cleandoc(section.__doc__ or ""), fields_of(section)]
    product = product_of(config)
    if product is not None:
        members = ", ".join(m for m in ("forward", "__call__") if m in vars(product))
        parts += [
            heading("What it builds", "-"),
            f".. autoclass:: {product.__module__}.{product.__qualname__}\n   :no-index:\n"
            + (f"   :members: {members}" if members else "   :no-members:"),
        ]
    return "\n\n".join(parts) + "\n"


def fields_of(config: type[BaseModel]) -> str:
    """Return the table of a config's fields, reStructuredText."""
    rows = []
    for field in describe_fields(config):
        kinds = [
            f":doc:`{kind} </{FOLDER}/{kind}/index>`"
            for kind in dict.fromkeys(kinds_in(config.model_fields[field.name]))
        ]
        allowed = f"``{field.allowed}``" + (f" (see {', '.join(kinds)})" if kinds else "")
        rows.append((f"``{field.name}``", allowed, f"``{field.default}``", escape(field.meaning)))
    if not rows:
        return "It has no fields."
    return table(("field", "allowed", "default", "meaning"), rows, "uc-fields")


def kinds_in(item: Any) -> list[str]:
    """Return the kinds of component that an annotation or a field takes."""
    inner = [*getattr(item, "metadata", ()), *getattr(item, "__metadata__", ())]
    if isinstance(item, Installed):
        return [item.kind]
    arguments = [getattr(item, "annotation", None), *typing.get_args(item), *inner]
    return [kind for part in arguments if part is not None for kind in kinds_in(part)]


def index_of(kind: str) -> str:
    """Return the page of a kind: what it is, and its components."""
    components = registry().components(kind)
    rows = [
        (
            f":doc:`{c.type_name()} </{FOLDER}/{kind}/{c.type_name()}>`",
            f"``{registry().home(c).name}``",
            inspect.cleandoc(c.__doc__ or "").split("\n\n")[0].replace("\n", " "),
        )
        for c in components
    ]
    return "\n\n".join(
        [
            heading(plural(kind).capitalize(), "="),
            inspect.cleandoc(KINDS[kind].__doc__ or ""),
            table(("type", "plugin", "what it is"), rows, "uc-index") if rows else "None is installed.",
            ".. toctree::\n   :hidden:\n\n" + "\n".join(f"   {c.type_name()}" for c in components),
        ]
    )


def pipeline_page() -> str:
    """Return the fields of a pipeline and of its sections."""
    parts = [heading("Fields of a pipeline", "="), inspect.cleandoc(PipelineConfig.__doc__ or "")]
    parts.append(fields_of(PipelineConfig))
    for section in sections_of(PipelineConfig):
        parts += [heading(section.__name__, "-"), inspect.cleandoc(section.__doc__ or ""), fields_of(section)]
    return "\n\n".join(parts) + "\n"


def pages() -> dict[str, str]:
    """Return every generated page by its path below the folder."""
    found = {"pipeline.rst": pipeline_page()}
    listing = "\n".join(f"   {kind}/index" for kind in KINDS)
    intro = (
        "Everything that a pipeline can name. Each page is made from the component's config: what "
        "``uncollapse plugins show`` prints in a terminal."
    )
    found["index.rst"] = "\n\n".join(
        [heading("Components", "="), intro, ".. toctree::\n   :maxdepth: 1\n\n   pipeline\n" + listing + "\n"]
    )
    for kind in KINDS:
        found[f"{kind}/index.rst"] = index_of(kind)
        for config in registry().components(kind):
            found[f"{kind}/{config.type_name()}.rst"] = page_of(config)
    return found


def setup(app: Sphinx) -> dict[str, bool]:
    """Write the pages when a build starts."""
    app.connect("builder-inited", lambda app: write_pages(Path(app.srcdir) / FOLDER, pages()))
    return {"parallel_read_safe": True}
