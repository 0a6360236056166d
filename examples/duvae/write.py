"""Write the pipelines of DU-VAE's tables, one file a row, from what the rows of a data set share and what sets them
apart.

    python examples/duvae/write.py     # tests/test_examples.py of the plugin checks that the files are these
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
SECTIONS = ("data", "model", "training", "evaluation", "estimators", "probes")
WIDTH = 110
Raw = dict[str, Any]

ROWS = {
    "ae": "AE, an autoencoder without noise; the paper says no more of it",
    "vae": "VAE with KL annealing",
    "beta-vae": "beta-VAE",
    "sa-vae": "SA-VAE, semi-amortized",
    "agg-vae": "Agg-VAE, aggressive training of the inference network",
    "fb": "FB, free bits of every dimension",
    "delta-vae": "delta-VAE",
    "bn-vae": "BN-VAE",
    "mae": "MAE with the prior N(0, I)",
    "du-vae-5-9": "DU-VAE (0.5, 0.9)",
    "du-vae-5-8": "DU-VAE (0.5, 0.8)",
    "du-vae-6-8": "DU-VAE (0.6, 0.8)",
    "iaf-fb": "IAF+FB, free bits of every dimension",
    "iaf-bn": "IAF+BN, BN-VAE's means under the flow",
    "du-iaf": "DU-IAF",
}
TABLE_1 = tuple(row for row in ROWS if row != "ae")
TABLE_2 = ("ae", "vae", "delta-vae", "agg-vae", "fb", "bn-vae", "mae", "du-vae-5-8", "iaf-fb", "iaf-bn", "du-iaf")
FIGURE_1 = ("vae", "agg-vae", "bn-vae", "du-vae-5-8")

# Hyper-parameters in the brackets of table 1: Yahoo, Yelp (which tables 2 and figure 1 take), OMNIGLOT. The second
# number of the DU rows is the probability p that a variance is kept.
SETTINGS: dict[str, dict[str, tuple[float, ...]]] = {
    "yahoo": {"beta": (0.4,), "bn": (0.6,), "mae": (1.0, 0.2), "iaf-fb": (0.15,), "iaf-bn": (0.6,), "iaf": (0.7, 0.7)},
    "yelp": {"beta": (0.4,), "bn": (0.6,), "mae": (2.0, 0.2), "iaf-fb": (0.25,), "iaf-bn": (0.7,), "iaf": (0.6, 0.7)},
    "omniglot": {
        "beta": (0.8,), "bn": (0.5,), "mae": (0.5, 0.2), "iaf-fb": (0.15,), "iaf-bn": (0.5,), "iaf": (0.5, 0.85),
    },
}  # fmt: skip


def du(gamma: float, keep: float, warm_up: int, eps: float | None = None) -> list[Raw]:
    """Return DU-VAE's transforms, at work from the end of the warm-up on as in the released code."""
    normalize: Raw = {"type": "duvae.batch_norm", "gamma": gamma, **({} if eps is None else {"eps": eps})}
    return [normalize, {"type": "duvae.variance_dropout", "keep": keep, "from_epoch": warm_up}]


def apply(raw: Raw, row: str, data: str, warm_up: int, *, text: bool, small: bool) -> None:
    """Turn the VAE of a data set into the model of a row."""
    settings, model, evaluation = SETTINGS[data], raw["model"], raw["evaluation"]
    posterior = model["posterior"]
    if row == "ae":
        raw["objective"] = {"type": "reconstruction"}
        posterior["logvar_range"] = [-20, -20]
        evaluation["estimators"] = [{"type": "elbo"} if text else {"type": "reconstruction_error"}]
    elif row == "beta-vae":
        raw["objective"]["rate_weight"]["end"] = settings["beta"][0]
    elif row == "sa-vae":
        semi_amortized(raw, text=text, small=small)
    elif row == "agg-vae":
        raw["objective"]["rate_weight"]["start"] = 0.1
        pace = {"check_every": 15, "patience": 1} if text else {"check_every": 10, "patience": 5}
        pace = {"max_steps": 10, "check_every": 5, "patience": 1} if small else {"max_steps": 99, **pace}
        raw["training"]["strategy"] = {"type": "baselines.aggressive", **pace}
    elif row == "fb":
        raw["objective"]["free_bits"] = {"nats": 0.1, "variant": "batch_per_dimension"}
    elif row == "delta-vae":
        posterior["moments"] = [{"type": "baselines.delta", "delta": 0.1}]
    elif row == "bn-vae":
        posterior["moments"] = [{"type": "baselines.batch_norm", "gamma": settings["bn"][0]}]
    elif row == "mae":
        eta, gamma = settings["mae"]
        raw["regularizers"] = [{"type": "mae.mutual_divergence", "eta": eta, "gamma": gamma}]
    elif row.startswith("du-vae"):
        gamma, keep = (int(digit) / 10 for digit in row.split("-")[2:])
        posterior["moments"] = du(gamma, keep, warm_up)
    elif "iaf" in row:
        flow: Raw = {"type": "iaf", "latent_dim": posterior["latent_dim"], "blocks": 2}
        if small:
            flow["hidden"] = 128
        if row == "iaf-fb":
            raw["objective"]["free_bits"] = {"nats": settings["iaf-fb"][0], "variant": "batch_per_dimension"}
        elif row == "iaf-bn":
            flow["moments"] = [{"type": "baselines.batch_norm", "gamma": settings["iaf-bn"][0], "eps": 1.0e-8}]
        else:
            flow["moments"] = du(*settings["iaf"], warm_up, eps=1.0e-8)
        model["posterior"] = flow
        # The density of another example's sample takes a pass for each dimension: the paper leaves it out as well. And
        # the rate of a flow does not fall apart into dimensions.
        gone = ("mutual_information", "kl_per_dimension")
        evaluation["estimators"] = [item for item in evaluation["estimators"] if item["type"] not in gone]
        # As a feature, section 4.2: the base's mean and where the flow takes it.
        evaluation["codes"] = "base_and_end"
    if text and row in ("bn-vae", "du-vae-5-9", "du-vae-5-8", "du-vae-6-8"):
        # The released encoder with batch normalization never calls its own initialization: torch's stays.
        model["encoder"].update(init_range=None, embedding_init_range=None)
        posterior.pop("init_range")


def semi_amortized(raw: Raw, *, text: bool, small: bool) -> None:
    """Turn a VAE into SA-VAE as Kim et al. (2018) released it; reduced, with few steps."""
    raw["objective"]["rate_weight"]["start"] = 0.1
    batch, steps = raw["data"]["batch_size"], 3 if small else 20
    raw["objective"] = {
        "type": "baselines.semi_amortized", "objective": raw["objective"], "steps": steps, "lr": 1.0, "momentum": 0.5,
        "clip": 5.0, "scale": "batch", "second_order": "finite_difference",
    }  # fmt: skip
    refined = {"type": "baselines.refined", "steps": steps, "lr": round(1 / batch, 5), "estimators": [{"type": "elbo"}]}
    raw["evaluation"]["estimators"].append(refined)
    if small:
        return
    refined["estimators"].append({"type": "nll", "samples": 500})
    if text:
        for part in ("encoder", "decoder"):
            raw["model"][part].update(init_range=0.1, embedding_init_range=0.1)
        raw["training"]["learning_rate"] = {
            "type": "plateau", "patience": 1, "factor": 0.5, "max_decays": None, "min_factor": 0.03, "from_epoch": 15,
        }  # fmt: skip
    else:
        raw["model"]["decoder"] = {
            "type": "gated_pixelcnn", "kernels": [9, 9, 9, 7, 7, 7, 5, 5, 5, 3, 3, 3], "channels": 32,
            "conditioning": "maps", "maps": 4,
        }  # fmt: skip
        del raw["training"]["learning_rate"]
        raw["training"]["epochs"] = 100


# ------------------------------------------------------------------------------------------------------------ data sets


def measured(likelihood: Raw, minibatch: int) -> list[Raw]:
    """Return the estimators of table 1, of the two sides of DU-VAE's latent space, and lagging's estimate of MI."""
    return [
        {"type": "elbo"},
        likelihood,
        {"type": "mutual_information"},
        {"type": "mutual_information", "variant": "minibatch", "minibatch_size": minibatch},
        {"type": "active_units"},
        {"type": "kl_per_dimension"},
        {"type": "mutual_posterior_divergence", "per_batch": None},
        {"type": "duvae.conditional_entropy"},
    ]


def annealed(epochs: int) -> Raw:
    """Return the ELBO whose rate has a weight that rises from 0 over the first epochs."""
    return {"type": "elbo", "rate_weight": {"type": "linear", "start": 0.0, "until_epoch": epochs}}


def text(data: Raw, embedding: int, hidden: int, latent: int, epochs: int, warm_up: int) -> Raw:
    """Return the LSTM VAE in the settings of DU-VAE's released code."""
    size = {"embedding": embedding, "hidden": hidden}
    return {
        "data": {**data, "batch_size": 32},
        "model": {
            "encoder": {"type": "lstm", **size, "init_range": 0.01, "embedding_init_range": 0.1},
            "posterior": {"type": "gaussian", "latent_dim": latent, "bias": False, "init_range": 0.01},
            "prior": {"type": "standard_normal"},
            "decoder": {"type": "lstm", **size, "dropout_in": 0.5, "dropout_out": 0.5},
        },
        "objective": annealed(warm_up),
        "training": {
            "epochs": epochs,
            "drop_last": False,
            "optimizer": {"type": "sgd", "lr": 1.0},
            "learning_rate": {
                "type": "plateau", "patience": 5, "factor": 0.5, "max_decays": 5, "from_epoch": 15,
                "reload_best": True, "forget_best": True,
            },
            "gradient_clip": 5.0,
        },
        "evaluation": {"batch_size": 32, "estimators": measured({"type": "perplexity", "samples": 500}, 32)},
    }  # fmt: skip


def lines(root: str, stem: str) -> Raw:
    """Return texts with label<TAB>text on every line, in batches of one length and at least 16."""
    return {
        "type": "text_lines", "root": f"datasets/{root}", "train": f"{stem}.train.txt",
        "validation": f"{stem}.valid.txt", "test": f"{stem}.test.txt", "labels": "column", "empty": "skip",
        "batching": "equal_length", "smallest_batch": 16,
    }  # fmt: skip


def yahoo() -> Raw:
    """Return the VAE of table 1 on Yahoo."""
    return text({**lines("yahoo_data", "yahoo")}, 512, 1024, 32, 100, 10)


def yelp() -> Raw:
    """Return the VAE of table 1 on Yelp."""
    return text({**lines("yelp_data", "yelp")}, 512, 1024, 32, 150, 10)


def short_yelp() -> Raw:
    """Return the VAE of table 2."""
    raw = text({**lines("short_yelp_data", "short_yelp")}, 128, 512, 32, 100, 10)
    raw["evaluation"]["probes"] = [{"type": "duvae.linear", "labels": [100, 500, 1000, 2000, 10000]}]
    return raw


def synthetic() -> Raw:
    """Return the VAE of figure 1."""
    raw = text({"type": "duvae.synthetic_text"}, 50, 50, 2, 50, 10)
    raw["evaluation"]["probes"] = [{"type": "knn", "neighbors": 10}]
    return raw


def yelp_small() -> Raw:
    """Return a VAE on the sentences of table 2 that two CPU cores train in minutes."""
    files = {
        "type": "text_lines", "root": "../shared/data/yelp", "train": ["sentiment.test.0", "sentiment.test.1"],
        "validation": 1000, "test": ["sentiment.dev.0", "sentiment.dev.1"], "labels": "files",
        "label_names": ["negative", "positive"], "limit": 10000, "min_frequency": 2, "max_length": 15,
        "batching": "equal_length", "smallest_batch": 16,
    }  # fmt: skip
    raw = text(files, 64, 128, 32, 6, 2)
    raw["training"].update(optimizer={"type": "adam", "lr": 1.0e-3})
    del raw["training"]["learning_rate"]
    raw["evaluation"].update(
        batch_size=250,
        examples=2000,
        estimators=measured({"type": "perplexity", "samples": 50}, 32),
        probes=[{"type": "duvae.linear", "labels": [100, 500, 1000, 2000], "draws": 2, "epochs": 30}],
    )
    return raw


def omniglot() -> Raw:
    """Return the VAE of tables 1 and 3."""
    return {
        "data": {
            "type": "omniglot", "download": True, "files": ["chardata.mat"], "transpose": True, "binarize": "dynamic",
            "validation": 2000, "batch_size": 50,
        },
        "model": {
            "encoder": {"type": "resnet", "widths": [64, 64, 64], "features": 512, "normalization": "batch"},
            "posterior": {"type": "gaussian", "latent_dim": 32},
            "prior": {"type": "standard_normal"},
            "decoder": {"type": "pixelcnn", "preset": "large", "normalization": "batch", "maps_activation": "none"},
        },
        "objective": annealed(10),
        "training": {
            "epochs": 500,
            "optimizer": {"type": "adam", "lr": 1.0e-3},
            "learning_rate": {
                "type": "plateau", "patience": 20, "factor": 0.5, "max_decays": 5, "reload_best": True,
                "forget_best": True,
            },
            "gradient_clip": 5.0,
        },
        "evaluation": {
            "batch_size": 50,
            "estimators": measured({"type": "nll", "samples": 500}, 50),
            "probes": [{"type": "duvae.grouped", "per_class": [5, 10, 15]}],
        },
    }  # fmt: skip


def omniglot_small() -> Raw:
    """Return a VAE on ten alphabets of OMNIGLOT that two CPU cores train in minutes."""
    raw = omniglot()
    raw["data"].update(
        root="../shared/data/omniglot", files=["images_background_small1", "images_background_small2"], validation=300,
        test=1200, transpose=False, download=False,
    )  # fmt: skip
    raw["model"]["encoder"].update(widths=[16, 16, 16], features=64)
    raw["model"]["decoder"] = {"type": "pixelcnn", "kernels": [7, 5, 3], "channels": 16, "normalization": "batch"}
    raw["objective"] = annealed(2)
    raw["training"]["epochs"] = 8
    del raw["training"]["learning_rate"]
    raw["evaluation"].update(
        batch_size=100,
        examples=1000,
        estimators=measured({"type": "nll", "samples": 20}, 50),
        probes=[{"type": "duvae.grouped", "per_class": [5, 10], "epochs": 100}],
    )
    return raw


# Folder: what its VAE is, its settings, its rows, its warm-up in epochs, its title.
FOLDERS: dict[str, tuple[Callable[[], Raw], str, tuple[str, ...], int, str]] = {
    "yahoo": (yahoo, "yahoo", TABLE_1, 10, "table 1, Yahoo"),
    "yelp": (yelp, "yelp", TABLE_1, 10, "table 1, Yelp"),
    "short-yelp": (short_yelp, "yelp", TABLE_2, 10, "table 2, the downsampled Yelp sentiment data"),
    "omniglot": (omniglot, "omniglot", tuple(ROWS), 10, "tables 1 and 3, OMNIGLOT"),
    "synthetic": (synthetic, "yelp", FIGURE_1, 10, "figure 1, synthetic texts; minutes on two CPU cores"),
    "yelp-small": (yelp_small, "yelp", tuple(ROWS), 2, "a reduced form of the text rows, for minutes on two CPU cores"),
    "omniglot-small": (
        omniglot_small, "omniglot", tuple(ROWS), 2, "a reduced form of the image rows, for minutes on two CPU cores",
    ),
}  # fmt: skip


def pipelines() -> Iterator[tuple[Path, str]]:
    """Yield path and content of every file."""
    for folder, (base, data, rows, warm_up, title) in FOLDERS.items():
        for row in rows:
            raw = copy.deepcopy(base())
            is_text = raw["model"]["encoder"]["type"] == "lstm"
            apply(raw, row, data, warm_up, text=is_text, small=folder.endswith("small"))
            head = f"# {ROWS[row]}: Shen et al., DU-VAE (2021), {title}. Written by write.py.\n"
            head += f"name: duvae-{folder}-{row}\nseed: {783435 if not folder.endswith('small') else 0}\n"
            yield HERE / folder / f"{row}.yaml", head + shown(raw)


def shown(raw: Raw) -> str:
    """Return YAML with one part a line, and parts that are too long for one spread over several."""
    return "\n".join(block(raw, "", SECTIONS)) + "\n"


def block(value: Any, indent: str, spread: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the lines of a mapping or a list; ``spread`` names the fields that are never on one line."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        lead = f"{indent}{key}:" if isinstance(value, dict) else f"{indent}-"
        line = f"{lead} {flow(item)}"
        if key not in spread and (len(line) <= WIDTH or not isinstance(item, dict | list)):
            yield line
        elif isinstance(value, dict):
            yield lead
            yield from block(item, indent + "  ", SECTIONS)
        else:
            first, *others = block(item, indent + "  ")
            yield f"{lead} {first.strip()}"
            yield from others


def flow(value: Any) -> str:
    """Return YAML on one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False).removesuffix("...\n").strip()


def main() -> None:
    """Write all files."""
    for path, content in pipelines():
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
