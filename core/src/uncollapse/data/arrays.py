"""Arrays of numbers in an .npz file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor

from ..errors import ConfigError, DataError
from ..protocols import Support
from .checks import check_labels, check_values
from .files import reading
from .in_memory import Examples, InMemoryDataConfig
from .splits import InMemorySource

__all__ = ["ArraysConfig"]

_KEYS = ("x", "y", "x_validation", "y_validation", "x_test", "y_test")


class ArraysConfig(InMemoryDataConfig):
    """Arrays saved with ``numpy.savez(path, x=x, y=y)``:
    https://numpy.org/doc/stable/reference/generated/numpy.savez.html.

    Keys: ``x`` ``[N, *X]`` and, if wanted, labels ``y`` ``[N]``, ``x_validation``, ``y_validation``, ``x_test``,
    ``y_test``. A set that is missing is drawn at random from ``x``. Objects (pickles) are never loaded.
    """

    type: Literal["arrays"] = "arrays"
    path: str = Field(description="the .npz file; relative to the current folder", examples=["data/measurements.npz"])
    support: Literal["binary", "unit_interval", "bytes", "real"] = Field(
        "real",
        description="where values lie: binary {0, 1}, unit_interval [0, 1], bytes (whole numbers 0 to 255, or those "
        "divided by 255), real",
    )
    validation: PositiveInt | None = Field(None, description="examples held out for validation; null for a tenth")
    test: PositiveInt | None = Field(None, description="examples held out for the test; null for a tenth")

    @model_validator(mode="after")
    def _can_be_binarized(self) -> ArraysConfig:
        if self.binarize != "none" and self.support not in ("unit_interval", "bytes"):
            raise ValueError(
                f"binarize: {self.binarize} needs values from 0 to 1, but support is {self.support}; declare support: "
                "unit_interval or bytes, or leave binarize out"
            )
        return self

    def build(self, seed: int) -> InMemorySource:
        """Return the source; see :class:`uncollapse.config.DataConfig`."""
        path = Path(self.path).expanduser()
        arrays = _load(path)
        sets: dict[str, Examples] = {}
        for part, suffix in (("train", ""), ("validation", "_validation"), ("test", "_test")):
            if f"x{suffix}" in arrays:
                labels = arrays.get(f"y{suffix}")
                if (labels is None) != ("y" not in arrays):
                    there, missing = ("y", f"y{suffix}") if labels is None else (f"y{suffix}", "y")
                    raise DataError(f"data.path: {path} holds {there} but not {missing}; label every set or none")
                sets[part] = _examples(arrays[f"x{suffix}"], labels, self.support, f"x{suffix}", part)
            elif f"y{suffix}" in arrays:
                raise DataError(f"data.path: {path} holds y{suffix} but not x{suffix}; add the examples")
        train = sets.pop("train")
        whole = len(train)
        for part, count in (("test", self.test), ("validation", self.validation)):
            if part in sets:
                if count is not None:
                    raise ConfigError(
                        f"data.{part}: {count} examples were asked for, but {path} holds x_{part}; "
                        f"leave data.{part} out"
                    )
                continue
            train, sets[part] = train.hold_out(
                count or max(1, whole // 10), "random", seed=self.split_seed, part=part, place=f"data.{part}"
            )
        return self.assemble(
            train, sets["validation"], sets["test"], support=self.support, seed=seed, place="data.path"
        )


def _load(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise DataError(f"data.path: there is no file {path.absolute()}; save one with numpy.savez(path, x=..., y=...)")
    with reading("data.path", path):
        try:
            with path.open("rb") as file:
                opened: Any = np.load(file, allow_pickle=False)
                if not isinstance(opened, np.lib.npyio.NpzFile):
                    raise DataError(
                        f"data.path: {path} is one array; expected an .npz file with the key x, as "
                        "numpy.savez(path, x=...) writes it"
                    )
                unknown = sorted(set(opened.files) - set(_KEYS))
                if "x" not in opened.files or unknown:
                    raise DataError(
                        f"data.path: {path} has the keys {', '.join(opened.files) or '(none)'}; expected x and, if "
                        f"wanted, {', '.join(_KEYS[1:])}"
                    )
                return {key: opened[key] for key in opened.files}
        except ValueError as error:
            if "pickle" not in str(error):
                raise
            raise DataError(
                f"data.path: {path} holds Python objects (a pickle), which are never loaded because they can run code; "
                "save arrays of numbers with numpy.savez"
            ) from error


def _examples(x: np.ndarray, labels: np.ndarray | None, support: Support, key: str, part: str) -> Examples:
    if x.dtype.kind not in "biuf":
        raise DataError(f"data.path: the array {key} holds {x.dtype}; expected numbers")
    if x.ndim < 2:
        raise DataError(
            f"data.path: the array {key} has shape {x.shape}; expected [N, *X] with at least one dimension after the "
            "examples"
        )
    values = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))
    targets = None
    if labels is not None:
        if labels.dtype.kind not in "iu":
            raise DataError(
                f"data.path: the labels of the {part} set are {labels.dtype}; expected class indices "
                "0, 1, … as integers"
            )
        targets = torch.from_numpy(np.ascontiguousarray(labels, dtype=np.int64))
        check_labels(targets, len(values), "data.path", part)
    if support == "bytes":
        values = values / 255 if _are_counts(x, values) else values
    check_values(values, support, "data.path", part)
    if support == "bytes":
        return Examples((values * 255).round().byte(), targets, levels=255)
    return Examples(values.byte() if support == "binary" else values, targets)


def _are_counts(x: np.ndarray, values: Tensor) -> bool:
    """Whether bytes come as whole numbers up to 255 rather than divided by 255."""
    return x.dtype.kind in "iu" or (values.numel() > 0 and float(values.max()) > 1 and bool((values % 1 == 0).all()))
