"""The examples in docstrings and in the documentation run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest
import yaml
from uncollapse.config.load import parse_config

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ["uncollapse", *(f"uncollapse_{p.name}" for p in sorted((ROOT / "plugins").iterdir()) if p.is_dir())]
PAGES = [p for p in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "plugins").glob("*/README.md"))] if ">>>" in p.read_text()]  # fmt: skip


def modules_with_examples() -> list[str]:
    found = []
    for name in PACKAGES:
        package = importlib.import_module(name)
        names = [name, *(m.name for m in pkgutil.walk_packages(package.__path__, f"{name}."))]
        for module in names:
            spec = importlib.util.find_spec(module)
            if spec and spec.origin and ">>>" in Path(spec.origin).read_text():
                found.append(module)
    return found


@pytest.mark.parametrize("name", modules_with_examples())
def test_docstrings(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_pages(page: Path) -> None:
    result = doctest.testfile(str(page), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0
    assert result.failed == 0


def test_the_readme_s_pipeline_is_valid() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert blocks
    for block in blocks:
        parse_config(yaml.safe_load(block))
