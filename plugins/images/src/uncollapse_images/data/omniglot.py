"""OMNIGLOT: from the drawings of its authors, or from the 28×28 reduction that the papers use."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field, PositiveInt, model_validator
from uncollapse.data import Examples, ImageDataConfig, InMemorySource, check_values, reading
from uncollapse.errors import DataError

from .decoding import decode
from .files import downloading
from .torchvision_compat import load_torchvision

__all__ = ["OmniglotConfig"]

_SIZE = (28, 28)
_LAYOUT = "omniglot-py"
_WHOLE = ("images_background", "images_evaluation")
_REDUCTION = "https://github.com/yburda/iwae/raw/master/datasets/OMNIGLOT/chardata.mat"
_LARGEST_DRAWING = 1 << 20


class OmniglotConfig(ImageDataConfig):
    """OMNIGLOT, handwritten characters of 50 alphabets: Lake, Salakhutdinov and Tenenbaum, Human-level concept learning
    through probabilistic program induction (2015), https://github.com/brendenlake/omniglot.

    ``files`` are folders or zip archives of drawings (alphabet/character/drawing.png), below ``root`` or in
    torchvision's ``omniglot-py`` below it: ink is 1, paper 0, and 105×105 pixels are averaged over the area to
    28×28. Drawings stand as they were drawn; one that several files hold counts once.

    Papers use another reduction, ``files: [chardata.mat]`` (Burda, Grosse and Salakhutdinov, IWAE, 2016), with 24,345
    training and 8,070 test images. They hold out 1,345 of the training images for validation (IWAE, VampPrior, MIM),
    2,000 (SA-VAE, DU-VAE) or 2,345 (MAE). IWAE, VampPrior, MIM and SA-VAE transpose its images, MAE does not: with an
    autoregressive decoder the two are different tasks. Numbers from drawings and from the reduction do not compare.
    """

    type: Literal["omniglot"] = "omniglot"
    root: str = Field("data", description="folder that holds the files; relative to the current folder")
    download: bool = Field(False, description="fetch missing files")
    files: tuple[str, ...] = Field(
        _WHOLE, min_length=1, description="folders or zip archives of drawings, without '.zip'; or [chardata.mat]"
    )
    transpose: bool = Field(
        False, description="swap rows and columns, as IWAE, VampPrior, MIM and SA-VAE do with chardata.mat"
    )
    labels: Literal["character", "alphabet"] = Field("character", description="what a label says")
    validation: PositiveInt = Field(1_345, description="training images held out at random for validation")
    test: PositiveInt | None = Field(
        None,
        description="images held out at random for the test; null for 8,070; chardata.mat has its own",
    )

    @model_validator(mode="after")
    def _one_reading(self) -> OmniglotConfig:
        if any(name.endswith(".mat") for name in self.files):
            if len(self.files) > 1:
                raise ValueError("files: a .mat file holds the whole data set; name it alone")
            if self.test is not None:
                raise ValueError("test: a .mat file has its own test images; leave test out")
        return self

    def build(self, seed: int) -> InMemorySource:
        """Return the source; see :class:`uncollapse.config.DataConfig`."""
        root = Path(self.root).expanduser()
        if self.files[0].endswith(".mat"):
            rest, test, names = self._reduction(root)
        else:
            everything, names = self._drawings(root)
            rest, test = everything.hold_out(
                self.test or 8_070, "random", seed=self.split_seed, part="test", place="data.test"
            )
        train, validation = rest.hold_out(
            self.validation, "random", seed=self.split_seed, part="validation", place="data.validation"
        )
        return self.assemble(
            train, validation, test, support=self.values, seed=seed, place="data.root", label_names=names
        )

    # ------------------------------------------------------------------------------------------------- the drawings

    def _drawings(self, root: Path) -> tuple[Examples, tuple[str, ...]]:
        if self.download:
            self._download_drawings(root)
        pixels: list[torch.Tensor] = []
        names: list[str] = []
        seen: set[str] = set()
        for file in self.files:
            where = self._find(root, file)
            for name, content in _open_drawings(where):
                # The small archives share alphabets; a drawing in training and test would be a leak.
                drawing = "/".join(name.split("/")[-3:])
                if drawing in seen:
                    continue
                seen.add(drawing)
                what = f"{where}/{name}"
                paper = decode(io.BytesIO(content), what, grayscale=True, size=_SIZE, resize="box", place="data.root")
                # Ink is black on white paper.
                pixels.append(255 - paper)
                alphabet, character = name.split("/")[-3:-1]
                names.append(alphabet if self.labels == "alphabet" else f"{alphabet}/{character}")
            if not pixels:
                raise DataError(f"data.files: {where} holds no drawings; expected alphabet/character/drawing.png in it")
        known = sorted(set(names))
        index = {name: i for i, name in enumerate(known)}
        x = torch.stack(pixels)
        if self.transpose:
            x = x.mT.contiguous()
        return Examples(x, torch.tensor([index[name] for name in names]), levels=255), tuple(known)

    def _find(self, root: Path, file: str) -> Path:
        candidates = [folder / name for folder in (root, root / _LAYOUT) for name in (file, f"{file}.zip")]
        for candidate in candidates:
            if candidate.is_dir() or (candidate.is_file() and zipfile.is_zipfile(candidate)):
                return candidate
            if candidate.is_file():
                raise DataError(
                    f"data.root: {candidate} cannot be read, it is truncated or no zip archive; get it again"
                )
        fetch = "set data.download: true to fetch it, or " if file in _WHOLE else ""
        raise DataError(
            f"data.root: OMNIGLOT is not in {root.absolute()}: neither the folder {file} nor the file {file}.zip is "
            f"there or in {_LAYOUT} below it; {fetch}point data.root at the folder that holds it"
        )

    def _download_drawings(self, root: Path) -> None:
        datasets = load_torchvision("data.download: true")
        with downloading("OMNIGLOT", root):
            for file in self.files:
                if file in _WHOLE:
                    datasets.Omniglot(root, background=file == _WHOLE[0], download=True)

    # ------------------------------------------------------------------------------------------------ the reduction

    def _reduction(self, root: Path) -> tuple[Examples, Examples, tuple[str, ...]]:
        from scipy.io import loadmat

        path = root / self.files[0]
        if self.download and not path.is_file():
            utils = load_torchvision("data.download: true").utils
            with downloading("OMNIGLOT", root):
                utils.download_url(_REDUCTION, str(root), filename=path.name)
        if not path.is_file():
            raise DataError(
                f"data.root: OMNIGLOT is not in {root.absolute()}: the file {path.name} is missing; set data.download: "
                "true to fetch it, or point data.root at the folder that holds it"
            )
        with reading("data.root", path):
            content = loadmat(path)
            parts = [self._part(content, prefix) for prefix in ("", "test")]
        alphabets = parts[0][1].shape[1]
        pairs = [
            [(int(a), int(c)) for a, c in zip(alphabet.argmax(1), character, strict=True)]
            for _, alphabet, character in parts
        ]
        if self.labels == "alphabet":
            labels = [torch.tensor([a for a, _ in part]) for part in pairs]
            names = tuple(f"alphabet {i + 1}" for i in range(alphabets))
        else:
            known = sorted(set(pairs[0]) | set(pairs[1]))
            index = {pair: i for i, pair in enumerate(known)}
            labels = [torch.tensor([index[pair] for pair in part]) for part in pairs]
            names = tuple(f"alphabet {a + 1}/character {c}" for a, c in known)
        for part, (x, _, _) in zip(("train", "test"), parts, strict=True):
            check_values(x, self.values, "data.root", part)
        train, test = (Examples(x, y) for (x, _, _), y in zip(parts, labels, strict=True))
        return train, test, names

    def _part(self, content: dict[str, np.ndarray], prefix: str) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
        images = torch.from_numpy(content[f"{prefix}data"].T.astype(np.float32)).reshape(-1, 1, *_SIZE)
        images = images.mT.contiguous() if self.transpose else images
        return images, content[f"{prefix}target"].T, content[f"{prefix}targetchar"].reshape(-1)


def _open_drawings(where: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of every drawing in a folder or an archive, sorted by name."""
    if where.is_dir():
        for path in sorted(where.glob("*/*/*.png")):
            yield path.relative_to(where.parent).as_posix(), path.read_bytes()
        return
    with reading("data.root", where):
        archive = zipfile.ZipFile(where)
    with archive:
        entries = [entry for entry in archive.infolist() if entry.filename.endswith(".png")]
        for entry in sorted(entries, key=lambda e: e.filename):
            if entry.file_size > _LARGEST_DRAWING or entry.filename.count("/") < 2:
                raise DataError(
                    f"data.files: {where} holds {entry.filename} of {entry.file_size} bytes, which is no drawing; "
                    "expected alphabet/character/drawing.png"
                )
            with reading("data.root", where):
                content = archive.read(entry)
            yield entry.filename, content
