"""New plugins, written from templates: ``uncollapse new-plugin``.

The templates lie in ``templates/``: the distribution around a component, and for every kind of component one that
works, with a test of its numbers. ``$name`` and the like are those of :class:`string.Template`.
"""

from __future__ import annotations

import re
import tempfile
from importlib.resources import files
from pathlib import Path
from string import Template

from uncollapse.errors import PluginError
from uncollapse.version import __version__

from .kinds import PIPELINE, PLACES, SUMMARIES, Kind
from .names import Names, check_free, names_for, placeholders

__all__ = ["Kind", "Names", "new_plugin", "render"]

_API_VERSION = 1
"""That of ``uncollapse.plugins``, whose import would take seconds."""


def new_plugin(name: str, kind: Kind | str, folder: Path | str = ".", component: str | None = None) -> Path:
    """Write a distribution that brings one working component; return its folder.

    Args:
        name: Of the plugin, ``my-norm`` say.
        kind: Of the component.
        folder: Where the distribution's folder is made; it must exist.
        component: Name of the component behind the plugin's; by default its kind's.

    Raises:
        PluginError: The name cannot be used, or is taken by an installed plugin, or there is something of that name.
        OSError: The folder cannot be written.
    """
    names = names_for(name, Kind(kind), component)
    check_free(names)
    folder = Path(folder)
    if not folder.is_dir():
        raise PluginError(f"--path {folder}: there is no such folder; make it first, or name another")
    target = folder / names.distribution
    if target.exists() or target.is_symlink():
        raise PluginError(f"{target}: there is something of this name already, which is left as it is; choose another")
    contents = render(names, Kind(kind))
    # Beside the target, so that all of it appears in one step, or nothing.
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{names.distribution}.") as hidden:
        whole = Path(hidden) / names.distribution
        for path, text in contents.items():
            (whole / path).parent.mkdir(parents=True, exist_ok=True)
            (whole / path).write_text(text, encoding="utf-8")
        whole.rename(target)
    return target


def render(names: Names, kind: Kind) -> dict[str, str]:
    """Return the content of every file of a new distribution, by its path inside it."""
    package = f"src/{names.package}"
    template = {
        "pyproject.toml": "project/pyproject.tmpl",
        "README.md": "project/README.tmpl",
        "pipeline.yaml": "project/pipeline.tmpl",
        f"{package}/__init__.py": "project/init.tmpl",
        f"{package}/plugin.py": "project/plugin.tmpl",
        f"{package}/{names.component}.py": f"component/{kind}.tmpl",
        "tests/test_conformance.py": "project/test_conformance.tmpl",
        f"tests/test_{names.component}.py": f"test/{kind}.tmpl",
    }
    known = dict(placeholders(names))
    component = Template(_read(f"component/{kind}.tmpl")).substitute(known)
    places = {place: Template(text).substitute(known) for place, text in PLACES[kind].items()}
    exports = _exports(component)
    oldest, newest = _versions()
    known |= {
        "summary": SUMMARIES[kind],
        "words": kind.replace("_", " "),
        "usage": _usage(places, names.type),
        "imports": "\n".join(f"    {name}," for name in exports),
        "exports": "\n".join(f'    "{name}",' for name in exports),
        "api_version": str(_API_VERSION),
        "oldest": oldest,
        "newest": newest,
        **PIPELINE,
        **places,
    }
    contents = {path: Template(_read(source)).substitute(known) for path, source in template.items()}
    # Places that the pipeline leaves at their default.
    contents["pipeline.yaml"] = re.sub(r"^.*: $\n", "", contents["pipeline.yaml"], flags=re.MULTILINE)
    return {**contents, "LICENSE": _read("project/LICENSE"), f"{package}/py.typed": ""}


def _read(name: str) -> str:
    return (files(__package__) / "templates" / name).read_text(encoding="utf-8")


def _exports(component: str) -> list[str]:
    """Return the names in ``__all__`` of a component's module."""
    (listed,) = re.findall(r"^__all__ = \[(.*)\]$", component, flags=re.MULTILINE)
    return re.findall(r'"(\w+)"', listed)


def _usage(places: dict[str, str], type_name: str) -> str:
    """Return how the component is used, for the README."""
    if not places:
        return f"```console\nuncollapse sample RUN --sampler {type_name}\n```"
    sections = {"encoder": "model", "posterior": "model", "prior": "model", "decoder": "model"}
    sections |= dict.fromkeys(("optimizer", "learning_rate", "strategy", "observers"), "training")
    sections |= dict.fromkeys(("estimators", "probes"), "evaluation")
    lines = []
    for place, text in places.items():
        section = sections.get(place)
        lines += [f"{place}: {text}"] if section is None else [f"{section}:", f"  {place}: {text}"]
    return "```yaml\n" + "\n".join(lines) + "\n```"


def _versions() -> tuple[str, str]:
    """Return the oldest and the first unsupported version of uncollapse that a new plugin states."""
    major, minor = (int(part) for part in __version__.split(".")[:2])
    return f"{major}.{minor}", f"0.{minor + 1}" if major == 0 else str(major + 1)
