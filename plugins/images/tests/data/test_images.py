"""Sources that read image files: generated ones, and the real data beside the project."""

from __future__ import annotations

import io
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from uncollapse.errors import ConfigError, DataError, MissingExtraError
from uncollapse.protocols import DataSpec, Split
from uncollapse_images.data import CIFAR10Config, FashionMNISTConfig, ImageFolderConfig, MNISTConfig, OmniglotConfig

Image = pytest.importorskip("PIL.Image", reason="needs Pillow, which the extra 'vision' brings")
pytest.importorskip("uncollapse_images.data.torchvision_compat").load_torchvision("these tests")


def everything(split: Split) -> torch.Tensor:
    return torch.cat([b.x for b in split.batches(1000)])


def labels(split: Split) -> torch.Tensor:
    return torch.cat([b.labels for b in split.batches(1000)])


def message_of(config: Any) -> str:
    with pytest.raises((DataError, ConfigError)) as error:
        config.build(0)
    return str(error.value)


# ---------------------------------------------------------------------------------------------------------- IDX files


def write_idx(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.fixture
def small_mnist(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for prefix, count in (("train", 40), ("t10k", 10)):
        write_idx(tmp_path / f"MNIST/raw/{prefix}-images-idx3-ubyte", rng.integers(0, 256, (count, 28, 28)))
        write_idx(tmp_path / f"MNIST/raw/{prefix}-labels-idx1-ubyte", np.arange(count) % 10)
    return tmp_path


def test_idx_files_are_read_and_the_last_ones_held_out(small_mnist: Path) -> None:
    source = MNISTConfig(root=str(small_mnist), validation=5).build(0)
    assert [len(s) for s in (source.train, source.validation, source.test)] == [35, 5, 10]
    assert source.spec == DataSpec((1, 28, 28), "unit_interval", 10)
    assert labels(source.validation).tolist() == [5, 6, 7, 8, 9]
    assert source.label_names[3] == "3 - three"


def test_random_validation_examples_do_not_follow_the_run_seed(small_mnist: Path) -> None:
    def build(seed: int, split_seed: int = 0) -> Any:
        config = MNISTConfig(root=str(small_mnist), validation=8, validation_from="random", split_seed=split_seed)
        return config.build(seed)

    a, b = build(0), build(1)
    assert torch.equal(everything(a.validation), everything(b.validation))
    assert not torch.equal(everything(a.validation), everything(build(0, 1).validation))
    seen = torch.cat([everything(a.train), everything(a.validation)])
    assert len({row.numpy().tobytes() for row in seen}) == 40


def test_a_stratified_validation_set_has_every_class(small_mnist: Path) -> None:
    config = MNISTConfig(root=str(small_mnist), validation=10, validation_from="stratified")
    assert labels(config.build(0).validation).sort().values.tolist() == list(range(10))


def test_missing_idx_files_are_named(tmp_path: Path) -> None:
    assert message_of(MNISTConfig(root=str(tmp_path))) == (
        f"data.root: MNIST is not in {tmp_path}/MNIST/raw: the file train-images-idx3-ubyte is missing; set "
        "data.download: true to fetch it, or point data.root at the folder that holds it"
    )
    assert message_of(FashionMNISTConfig(root=str(tmp_path))).startswith(
        f"data.root: FashionMNIST is not in {tmp_path}/FashionMNIST/raw: the file train-images-idx3-ubyte is missing"
    )


def test_truncated_and_foreign_idx_files_are_named(small_mnist: Path) -> None:
    raw = small_mnist / "MNIST/raw"
    images = raw / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:1000])
    assert message_of(MNISTConfig(root=str(small_mnist), validation=5)) == (
        f"data.root: {raw} cannot be read, it is truncated or of another format (RuntimeError: shape '[40, 28, 28]' is "
        "invalid for input of size 984); get it again"
    )
    images.write_bytes(b"<html>404</html>")
    assert message_of(MNISTConfig(root=str(small_mnist), validation=5)) == (
        f"data.root: {raw} cannot be read, it is truncated or of another format (AssertionError); get it again"
    )


def test_labels_of_another_set_are_refused(small_mnist: Path) -> None:
    raw = small_mnist / "MNIST/raw"
    write_idx(raw / "train-labels-idx1-ubyte", np.arange(7))
    assert message_of(MNISTConfig(root=str(small_mnist), validation=5)) == (
        f"data.root: {raw} cannot be read, it is truncated or of another format (ValueError: 40 images, but 7 labels); "
        "get it again"
    )


def test_a_failed_download_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import MNIST

    def download(self: object) -> None:
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz:\nTried …")

    monkeypatch.setattr(MNIST, "download", download)
    assert message_of(MNISTConfig(root=str(tmp_path), download=True)) == (
        f"data.download: MNIST could not be downloaded to {tmp_path}: Error downloading train-images-idx3-ubyte.gz:; "
        "check the network and the folder, or put the files there by hand"
    )


def test_without_torchvision_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr("uncollapse_images.data.torchvision_compat.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError) as error:
        MNISTConfig().build(0)
    assert str(error.value) == (
        "data.type: mnist needs the package 'torchvision', which is not installed. Install it with: "
        "pip install 'uncollapse[images]'"
    )


def test_bytes_have_no_meaning_once_binarized() -> None:
    with pytest.raises(ValidationError) as error:
        MNISTConfig(values="bytes", binarize="dynamic")
    assert "values: bytes has no meaning with binarize: dynamic; leave one of them out" in str(error.value)


# -------------------------------------------------------------------------------------------------------- real images


@pytest.fixture(scope="module")
def mnist(full_data: Path) -> Any:
    return MNISTConfig(root=str(full_data)).build(0)


def test_mnist_is_whole(mnist: Any) -> None:
    assert [len(s) for s in (mnist.train, mnist.validation, mnist.test)] == [50_000, 10_000, 10_000]
    # The usual mean of MNIST's 60,000 training images.
    mean = (everything(mnist.train).mean() * 5 + everything(mnist.validation).mean()) / 6
    assert float(mean) == pytest.approx(0.1307, abs=5e-5)
    assert torch.bincount(torch.cat([labels(mnist.train), labels(mnist.validation)])).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949,
    ]  # fmt: skip


def test_five_draws_of_the_test_set_as_mae_has_them(full_data: Path, mnist: Any) -> None:
    config = MNISTConfig(
        root=str(full_data), binarize="dynamic", validation=2000, validation_from="random", test_draws=5, limit=1000
    )
    source = config.build(0)
    assert [len(s) for s in (source.train, source.validation, source.test)] == [1000, 2000, 50_000]
    grey = everything(mnist.test)
    drawn = everything(source.test).unflatten(0, (5, 10_000))[:, :2000].flatten(1)
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    # Frequencies over all pixels of one grey value are that value: 1.6 million pixels are 7.8 million draws.
    for level in (0, 1, 64, 128, 200, 254, 255):
        chosen = drawn[:, (grey[:2000].flatten() - level / 255).abs() < 1e-6]
        p = level / 255
        assert abs(float(chosen.double().mean()) - p) <= 4 * (p * (1 - p) / chosen.numel()) ** 0.5 + 1 / 65536


def test_fashion_mnist_as_bytes(full_data: Path) -> None:
    source = FashionMNISTConfig(root=str(full_data), values="bytes").build(0)
    assert source.spec == DataSpec((1, 28, 28), "bytes", 10)
    assert source.label_names[0] == "T-shirt/top"
    x = next(source.train.batches(100, shuffle=True)).x * 255
    assert torch.allclose(x, x.round(), atol=1e-4)
    assert float(everything(source.train).mean()) == pytest.approx(0.2860, abs=1e-3)


def test_omniglot_from_archives_and_from_folders_is_the_same(full_data: Path, tmp_path: Path) -> None:
    archive = full_data / "omniglot/images_background_small1.zip"
    with zipfile.ZipFile(archive) as opened:
        wanted = [n for n in opened.namelist() if "/Latin/" in n or "/Greek/" in n]
        opened.extractall(tmp_path / "omniglot-py", wanted)
        with zipfile.ZipFile(tmp_path / "part.zip", "w") as part:
            for name in wanted:
                part.writestr(name, opened.read(name))
    fields: dict[str, Any] = {"root": str(tmp_path), "test": 200, "validation": 100}
    zipped = OmniglotConfig(files=("part",), **fields).build(0)
    folder = OmniglotConfig(files=("images_background_small1",), **fields).build(0)
    x = everything(zipped.train)
    assert torch.equal(x, everything(folder.train))
    assert zipped.label_names == folder.label_names
    # 26 Latin and 24 Greek characters of 20 drawings.
    assert len(zipped.label_names) == 50
    assert [len(s) for s in (zipped.train, zipped.validation, zipped.test)] == [700, 100, 200]
    assert zipped.spec == DataSpec((1, 28, 28), "unit_interval", 50)
    assert "Greek/character01" in zipped.label_names
    # Ink is 1 and rare.
    assert 0.05 < float(x.mean()) < 0.2
    assert float(x.min()) == 0
    assert float(x.max()) == 1

    turned = OmniglotConfig(files=("part",), transpose=True, labels="alphabet", **fields).build(0)
    assert torch.equal(everything(turned.train), x.mT)
    assert turned.label_names == ("Greek", "Latin")
    alphabets = [zipped.label_names[i].partition("/")[0] for i in labels(zipped.train)]
    assert [turned.label_names[i] for i in labels(turned.train)] == alphabets


def test_both_small_archives_of_omniglot(full_data: Path) -> None:
    config = OmniglotConfig(
        root=str(full_data / "omniglot"),
        files=("images_background_small1", "images_background_small2"),
        test=1000,
        validation=500,
        binarize="dynamic",
        labels="alphabet",
    )
    source = config.build(0)
    assert [len(s) for s in (source.train, source.validation, source.test)] == [3340, 500, 1000]
    # Both hold Greek and Latin: 2,720 and 3,120 drawings, 1,000 of them the same.
    assert len(source.label_names) == 8
    assert source.spec.support == "binary"


def test_a_part_of_cifar_as_folders(full_data: Path, tmp_path: Path) -> None:
    with tarfile.open(full_data / "cifar10-jpeg/cifar10-jpeg-6000.tar") as tar:
        members = [m for m in tar if m.name.endswith((*(f"000{i}.jpg" for i in range(4)),))]
        tar.extractall(tmp_path, members, filter="data")
    source = ImageFolderConfig(root=str(tmp_path), values="bytes", validation=10).build(0)
    assert source.spec == DataSpec((3, 32, 32), "bytes", 10)
    assert [len(s) for s in (source.train, source.validation, source.test)] == [30, 10, 40]
    assert source.label_names[0] == "airplane"
    small = ImageFolderConfig(root=str(tmp_path), grayscale=True, size=(16, 8)).build(0)
    assert small.spec == DataSpec((1, 16, 8), "unit_interval", 10)


# -------------------------------------------------------------------------------------------------------- image_folder


def paint(path: Path, value: int, size: tuple[int, int] = (6, 4), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value, 0, 255)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, first in (("cat", 0), ("dog", 100)):
        for i in range(10):
            paint(tmp_path / name / f"{i}.png", first + i)
    return tmp_path


def test_class_folders_are_read(folder: Path) -> None:
    source = ImageFolderConfig(root=str(folder), test=4, validation=3, values="bytes").build(0)
    assert source.spec == DataSpec((3, 4, 6), "bytes", 2)
    assert source.label_names == ("cat", "dog")
    assert [len(s) for s in (source.train, source.validation, source.test)] == [13, 3, 4]
    for split in (source.train, source.validation, source.test):
        x = everything(split) * 255
        assert torch.equal((x[:, 0, 0, 0] >= 100).long(), labels(split))
        assert (x[:, 1] == 0).all()
        assert (x[:, 2] == 255).all()


def test_sets_in_folders_of_their_own(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("divided")
    for part, values in (("train", range(6)), ("validation", range(6, 8)), ("test", range(8, 9))):
        for value in values:
            paint(root / part / "dog" / f"{value}.png", value, mode="L")
            if part == "train":
                paint(root / part / "cat" / f"{value}.png", 50, mode="L")
    source = ImageFolderConfig(root=str(root), grayscale=True).build(0)
    assert [len(s) for s in (source.train, source.validation, source.test)] == [12, 2, 1]
    # A set without cats keeps the index that dogs have in training.
    assert labels(source.test).tolist() == [1]
    assert (everything(source.validation)[:, 0, 0, 0] * 255).tolist() == [6, 7]
    assert message_of(ImageFolderConfig(root=str(root), grayscale=True, test=3)) == (
        f"data.test: 3 images were asked for, but {root}/test holds the set; leave data.test out"
    )
    paint(root / "test" / "bird" / "1.png", 1)
    assert message_of(ImageFolderConfig(root=str(root), grayscale=True)) == (
        f"data.root: {root}/test holds the class 'bird', which the training images do not have; known classes: cat, dog"
    )


def test_images_are_resized_with_antialiasing(tmp_path: Path) -> None:
    stripes = np.zeros((32, 32), np.uint8)
    stripes[:, ::2] = 255
    for i in range(3):
        path = tmp_path / "stripes" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(stripes).save(path)
    source = ImageFolderConfig(root=str(tmp_path), size=8, grayscale=True).build(0)
    assert (everything(source.train) - 0.5).abs().max() < 0.07


def test_images_of_different_sizes_are_refused(folder: Path) -> None:
    paint(folder / "dog" / "x.png", 7, size=(9, 9))
    assert message_of(ImageFolderConfig(root=str(folder))) == (
        f"data.size: {folder}/dog/x.png is 9×9 pixels, {folder}/cat/0.png is 4×6; images must be of one size, so set "
        "data.size, 6 say"
    )
    assert ImageFolderConfig(root=str(folder), size=6).build(0).spec.event_shape == (3, 6, 6)


def test_damaged_images_are_named(folder: Path) -> None:
    path = folder / "dog" / "x.png"
    path.write_text("no image")
    assert message_of(ImageFolderConfig(root=str(folder))) == (
        f"data.root: {path} cannot be read: not an image; remove it or get it again"
    )
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(buffer, "png")
    path.write_bytes(buffer.getvalue()[:2000])
    found = message_of(ImageFolderConfig(root=str(folder)))
    assert found.startswith(f"data.root: {path} cannot be read: ")
    assert "truncated" in found


def test_an_image_that_decompresses_to_gigabytes_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    found = message_of(ImageFolderConfig(root=str(folder)))
    assert found.startswith(f"data.root: {folder}/cat/0.png cannot be read: Image size (24 pixels) exceeds limit")


def test_folders_that_hold_nothing_are_named(tmp_path: Path) -> None:
    assert message_of(ImageFolderConfig(root=str(tmp_path / "none"))) == (
        f"data.root: there is no folder {tmp_path}/none; point data.root at the folder of images"
    )
    assert message_of(ImageFolderConfig(root=str(tmp_path))) == (
        f"data.root: {tmp_path} does not hold class folders with images (Couldn't find any class folder in "
        f"{tmp_path}.); expected class/image.png in it"
    )


# ----------------------------------------------------------------------------------------------- CIFAR-10 and OMNIGLOT


def test_missing_cifar_is_named(tmp_path: Path) -> None:
    assert message_of(CIFAR10Config(root=str(tmp_path))) == (
        f"data.root: CIFAR-10 is not in {tmp_path}/cifar-10-batches-py: the file data_batch_1 is missing; set "
        "data.download: true to fetch it, or point data.root at the folder that holds it"
    )


def test_cifar_files_with_other_contents_are_never_opened(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"):
        (folder / name).write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    assert message_of(CIFAR10Config(root=str(tmp_path))) == (
        f"data.root: {folder} cannot be read, it is truncated or of another format (RuntimeError: Dataset not found or "
        "corrupted. You can use download=True to download it); get it again"
    )


def test_cifar_is_read_as_colour_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib
    import pickle

    from torchvision.datasets import CIFAR10

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    rng = np.random.default_rng(0)
    sums = {}
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"):
        pixels = rng.integers(0, 256, (6, 3072), dtype=np.uint8)
        content = {"label_names": [f"class {i}" for i in range(10)]} if name == "batches.meta" else {
            "data": pixels, "labels": list(range(6)),
        }  # fmt: skip
        if name == "test_batch":
            tested = pixels
        (folder / name).write_bytes(pickle.dumps(content))
        sums[name] = hashlib.md5((folder / name).read_bytes(), usedforsecurity=False).hexdigest()
    monkeypatch.setattr(CIFAR10, "train_list", [[n, sums[n]] for n, _ in CIFAR10.train_list])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": sums["batches.meta"]})
    source = CIFAR10Config(root=str(tmp_path), validation=7).build(0)
    assert [len(s) for s in (source.train, source.validation, source.test)] == [23, 7, 6]
    assert source.spec == DataSpec((3, 32, 32), "bytes", 10)
    assert source.label_names[9] == "class 9"
    assert torch.equal((everything(source.test) * 255).round(), torch.from_numpy(tested).view(6, 3, 32, 32).float())


def test_missing_omniglot_is_named(tmp_path: Path) -> None:
    assert message_of(OmniglotConfig(root=str(tmp_path))) == (
        f"data.root: OMNIGLOT is not in {tmp_path}: neither the folder images_background nor the file "
        "images_background.zip is there or in omniglot-py below it; set data.download: true to fetch it, or point "
        "data.root at the folder that holds it"
    )
    assert message_of(OmniglotConfig(root=str(tmp_path), files=("chardata.mat",))) == (
        f"data.root: OMNIGLOT is not in {tmp_path}: the file chardata.mat is missing; set data.download: true to fetch "
        "it, or point data.root at the folder that holds it"
    )


def test_damaged_archives_of_omniglot_are_named(tmp_path: Path) -> None:
    config = OmniglotConfig(root=str(tmp_path), files=("part",))
    (tmp_path / "part.zip").write_bytes(b"PK no")
    assert message_of(config) == (
        f"data.root: {tmp_path}/part.zip cannot be read, it is truncated or no zip archive; get it again"
    )
    with zipfile.ZipFile(tmp_path / "part.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    assert message_of(config) == (
        f"data.files: {tmp_path}/part.zip holds no drawings; expected alphabet/character/drawing.png in it"
    )
    with zipfile.ZipFile(tmp_path / "part.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("part/a/b/bomb.png", bytes(2 << 20))
    assert message_of(config) == (
        f"data.files: {tmp_path}/part.zip holds part/a/b/bomb.png of 2097152 bytes, which is no drawing; expected "
        "alphabet/character/drawing.png"
    )


def test_the_reduction_of_the_papers(tmp_path: Path) -> None:
    from scipy.io import savemat

    rng = np.random.default_rng(0)

    def part(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        alphabets = np.eye(3)[:, np.arange(count) % 3]
        return rng.random((784, count)), alphabets, (np.arange(count) % 2 + 1)[None]

    contents = {}
    for prefix, count in (("", 30), ("test", 8)):
        keys = (f"{prefix}data", f"{prefix}target", f"{prefix}targetchar")
        contents.update(zip(keys, part(count), strict=True))
    savemat(tmp_path / "chardata.mat", contents)
    fields: dict[str, Any] = {"root": str(tmp_path), "files": ("chardata.mat",), "validation": 6}
    source = OmniglotConfig(**fields).build(0)
    assert [len(s) for s in (source.train, source.validation, source.test)] == [24, 6, 8]
    expected = torch.from_numpy(contents["testdata"].T.astype(np.float32)).view(8, 1, 28, 28)
    assert torch.equal(everything(source.test), expected)
    assert source.spec.classes == 6
    turned = OmniglotConfig(transpose=True, labels="alphabet", **fields).build(0)
    assert torch.equal(everything(turned.test), expected.mT)
    assert labels(turned.test).tolist() == [0, 1, 2, 0, 1, 2, 0, 1]

    (tmp_path / "chardata.mat").write_bytes(b"no matrix")
    assert message_of(OmniglotConfig(**fields)).startswith(
        f"data.root: {tmp_path}/chardata.mat cannot be read, it is truncated or of another format ("
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"files": ("chardata.mat", "images_background")},
            "files: a .mat file holds the whole data set; name it alone",
        ),
        ({"files": ("chardata.mat",), "test": 5}, "test: a .mat file has its own test images; leave test out"),
    ],
)
def test_the_reduction_stands_alone(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as error:
        OmniglotConfig(**fields)
    assert message in str(error.value)
