"""What a run ran on: versions, hardware, git revision."""

from __future__ import annotations

import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from ..plugins import registry

__all__ = ["describe_environment", "now", "plugin_versions"]

_PACKAGES = "uncollapse torch accelerate numpy pydantic safetensors scikit-learn zuko torchvision tokenizers datasets"


def describe_environment() -> dict[str, Any]:
    """Return interpreter, platform, hardware, package and plugin versions, git revision and the time."""
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "accelerators": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        # Torch says which build it is, its metadata may not.
        "packages": {n: v for n in _PACKAGES.split() if (v := _version(n))} | {"torch": torch.__version__},
        "plugins": plugin_versions(),
        "git": _git_revision(),
        "started": now(),
    }


def plugin_versions() -> list[dict[str, str]]:
    """Return name, distribution and version of every plugin that is installed and not known to be broken."""
    loaded = [p for p in registry().installed if p.error is None and not p.disabled]
    return [{"name": p.name, "distribution": p.distribution, "version": p.version} for p in loaded]


def now() -> str:
    """Return the time in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    """Return the revision of the folder that the run was started in, with ``-dirty`` for uncommitted changes."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None
