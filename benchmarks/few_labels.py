"""Learning curves of heads with few labels, with and without AudioSet's classes as prior.

    python -m benchmarks.few_labels CITY RESULTS --checkpoint mn04_as_mAP_432.pt [--variants 3]

CITY is a data set in the SONYC-UST v1 layout. Each draw is a random order of its train clips, and heads are
trained on the first 10, 30, 100, 300 and 600 of them. Their labels are the posteriors of the rule ``pooled``,
fitted to the votes on these clips alone. Scores are coarse micro AUPRC on validate, and on validate as a
distant sensor would record it (`benchmarks.shifted`). RESULTS is a folder; finished draws in it are kept, and
the tables and the figure are of all of them.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.shifted import SEED, SENSOR
from ust.annotations.annotations import GROUND_TRUTH, read_annotations
from ust.annotations.rules.pooled import PooledConfig, estimate_pooled
from ust.annotations.rules.votes import collect_votes
from ust.annotations.taxonomy import read_taxonomy
from ust.audio.augmentation import PlannedVariant, augment
from ust.audio.recordings import SAMPLE_RATE, load_audio
from ust.evaluation.bootstrap import bootstrap_scores, confidence_interval, draw_resamples
from ust.evaluation.calibration import fit_calibration
from ust.evaluation.metrics import coarse_events
from ust.features.efficientat.feature import fold_batch_norms
from ust.features.efficientat.network import MobileNet
from ust.features.efficientat.weights import find_released_name, network_width, read_published
from ust.features.efficientat.windows import window_max_pool
from ust.features.mn_logmel import log_mel
from ust.models.audioset_head import AudioSetHead
from ust.models.checkpoints import build_initialized
from ust.models.examples import TensorExamples
from ust.models.head import Head
from ust.models.outputs import raise_coarse_to_fine
from ust.training.cross_validation import group_folds
from ust.training.train import flat_score
from ust.training.train_head import HeadSettings
from ust.training.trainer import fit_classifier
from ust.util.seeding import random_stream

VARIANTS = ("sensor", "sensor_2", "sensor_3")
SIZES = (10, 30, 100, 300, 600)
RESAMPLES = 200
SYSTEMS = {"audioset": "AudioSet's classes", "head": "head", "prior": "head with prior"}
SETS = {"validate": "unchanged", "shifted": "distant sensor"}


def extract(folder: Path, checkpoint: Path, cache: Path) -> dict[str, np.ndarray]:
    """Return ``mn_windows`` of train and validate, and of both as a distant sensor records them; cached."""
    if cache.exists():
        return dict(np.load(cache))
    width = network_width(find_released_name(checkpoint))
    network = MobileNet(width).eval()
    network.load_state_dict(read_published(checkpoint, width))
    fold_batch_norms(network)

    def embed(path: Path, **sensor: Any) -> np.ndarray:
        samples = load_audio(path, SAMPLE_RATE)
        if sensor:
            options = {"variant": "sensor", "settings": SENSOR} | sensor
            samples = augment(samples, SAMPLE_RATE, PlannedVariant(path.name, "sensor", **options))
        with torch.inference_mode():
            values = torch.from_numpy(log_mel(np.float32(samples), SAMPLE_RATE))[None]
            return window_max_pool(network, values, 4)[0].numpy()

    train, validate = (sorted((folder / split).glob("*.wav")) for split in ("train", "validate"))
    values = {
        "train": np.stack([embed(path) for path in train]),
        **{name: np.stack([embed(path, seed=2019, variant=name) for path in train]) for name in VARIANTS},
        "validate": np.stack([embed(path) for path in validate]),
        "shifted": np.stack([embed(path, seed=SEED, variant="sensor") for path in validate]),
    }
    cache.parent.mkdir(parents=True, exist_ok=True)
    np.savez(cache, **values)
    return values


class City:
    """Clips, votes, truth and features of a data set."""

    def __init__(self, folder: Path, values: dict[str, np.ndarray]) -> None:
        self.values = {name: torch.from_numpy(array) for name, array in values.items()}
        self.taxonomy = read_taxonomy(folder / "dcase-ust-taxonomy.yaml")
        self.labels = list(self.taxonomy.labels)
        annotations = read_annotations(folder / "annotations.csv", self.taxonomy)
        self.clips, validate = (
            np.unique(annotations.loc[annotations["split"] == split, "audio_filename"])
            for split in ("train", "validate")
        )
        self.votes = annotations[annotations["split"] == "train"]
        sensors = self.votes.groupby("audio_filename")["sensor_id"].first()
        self.sensors = sensors.loc[self.clips].to_numpy(str)
        truth = annotations[annotations["annotator_id"] == GROUND_TRUTH].set_index("audio_filename")
        self.truth = (truth.loc[validate, self.labels] == 1).to_numpy(int)
        self.classes = AudioSetHead.Config().complete_for_labels(self.taxonomy, self.labels)
        self.shapes = {"embedding": tuple(self.values["train"].shape[1:])}

    def pooled(self, clips: np.ndarray) -> np.ndarray:
        """Return label probabilities of clips from the votes on them."""
        votes = collect_votes(self.votes[self.votes["audio_filename"].isin(clips)], self.taxonomy)
        return (
            pd.DataFrame(estimate_pooled(votes, PooledConfig()), votes.clips).loc[clips].to_numpy(np.float32)
        )

    def scores(self, probabilities: np.ndarray) -> np.ndarray:
        """Return coarse micro AUPRC on all validate clips, then on each bootstrap resample.

        A coarse label is at least as probable as its fine ones.
        """
        count, coarse = len(self.truth), len(self.taxonomy.coarse)
        probabilities = raise_coarse_to_fine(torch.from_numpy(probabilities), self.taxonomy).numpy()
        events = coarse_events(self.truth[:, :coarse], probabilities[:, :coarse], self.taxonomy)
        resamples = draw_resamples(np.zeros(count), unit="clips", count=RESAMPLES, seed=2019)
        return bootstrap_scores(events, [np.arange(count), *resamples])["micro_auprc"]


Predict = Callable[[torch.Tensor], np.ndarray]


def train_head(city: City, x: torch.Tensor, y: np.ndarray, decay: float, seed: int) -> Predict:
    """Train a head as `ust.training.train_head` does; return a function from features to probabilities."""
    settings = HeadSettings(seed=seed)
    network = build_initialized("head", Head.Config(), y.shape[1], city.shapes, seed, "few")
    examples = TensorExamples({"embedding": x}, torch.from_numpy(y))
    options = {name: getattr(settings, name) for name in ("seed", "lr", "batch_size", "max_epochs", "mixup")}
    fit_classifier(network, examples, name="few", weight_decay=decay, mode=None, **options)
    return prediction(network)


def train_prior(city: City, x: torch.Tensor, y: np.ndarray, decay: float, clips: int) -> Predict:
    """Fit a head with prior; return a function from features to probabilities."""
    network = AudioSetHead(city.classes, y.shape[1], city.shapes)
    network.fit(x, torch.from_numpy(y), weight_decay=decay, clips=clips)
    return prediction(network)


def prediction(network: torch.nn.Module) -> Predict:
    """Return the function from features to the network's probabilities."""
    network.eval()

    def predict(values: torch.Tensor) -> np.ndarray:
        with torch.inference_mode():
            return torch.sigmoid(network(values)).numpy()

    return predict


def choose_decay(
    train: Callable[[np.ndarray, float], Predict],
    x: torch.Tensor,
    y: np.ndarray,
    groups: np.ndarray,
    city: City,
) -> tuple[float, np.ndarray]:
    """Return the weight decay with the best out-of-fold score, and its out-of-fold probabilities."""
    settings, score = HeadSettings(), flat_score(city.labels, y > 0.5, city.taxonomy)
    candidates = []
    for decay in settings.weight_decay:
        held_out = np.zeros_like(y)
        for rest, fold in group_folds(groups, settings.folds):
            held_out[fold] = train(rest, decay)(x[fold])
        candidates.append((np.mean(list(score(held_out).values())), decay, held_out))
    return max(candidates, key=lambda candidate: candidate[0])[1:]


def compare(
    city: City, chosen: np.ndarray, seed: int, *, variants: Sequence[str]
) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield system, validation set and scores of heads on some of the clips, with and without prior."""
    parts, count = ["train", *variants], len(chosen)
    x = torch.cat([city.values[part][chosen] for part in parts])
    y, groups = (
        np.concatenate([values] * len(parts))
        for values in (city.pooled(city.clips[chosen]), city.sensors[chosen])
    )

    def plain(rows: np.ndarray | slice, decay: float) -> Predict:
        return train_head(city, x[rows], y[rows], decay, seed)

    def with_prior(rows: np.ndarray | slice, decay: float) -> Predict:
        return train_prior(city, x[rows], y[rows], decay, len(x[rows]) // len(parts))

    decay, held_out = choose_decay(plain, x, y, groups, city)
    predict, calibration = plain(slice(None), decay), fit_calibration(held_out[:count], y[:count])
    predict_prior = with_prior(slice(None), choose_decay(with_prior, x, y, groups, city)[0])
    for name in SETS:
        yield "head", name, city.scores(calibration(predict(city.values[name])))
        yield "prior", name, city.scores(predict_prior(city.values[name]))


def measure(city: City, draw: int, sizes: list[int], path: Path, *, variants: Sequence[str]) -> None:
    """Write the scores of a draw, by system, validation set and number of clips."""
    order = random_stream(draw, "few labels").permutation(len(city.clips))
    untrained = prediction(AudioSetHead(city.classes, len(city.labels), city.shapes))
    scores = {f"audioset {name} 0": city.scores(untrained(city.values[name])) for name in SETS}
    for size in sizes:
        chosen = np.sort(order[:size])
        for system, name, values in compare(city, chosen, draw, variants=variants):
            scores[f"{system} {name} {size}"] = values
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **scores)


def table(scores: dict[str, np.ndarray], sizes: list[int]) -> str:
    """Return the means over draws as Markdown, with intervals of the difference over resamples of clips."""
    lines = ["| clips | validate clips | AudioSet's classes | head | head with prior | difference |"]
    lines.append("| --- " * 6 + "|")
    for name, title in SETS.items():
        zero = scores[f"audioset {name} 0"].mean(axis=0)[0]
        lines.append(f"| 0 | {title} | {zero:.3f} | – | {zero:.3f} | |")
        for size in sizes:
            head, prior = (scores[f"{system} {name} {size}"].mean(axis=0) for system in ("head", "prior"))
            low, high = confidence_interval(prior[1:] - head[1:])
            cells = f"{zero:.3f} | {head[0]:.3f} | {prior[0]:.3f} | {prior[0] - head[0]:+.3f} "
            lines.append(f"| {size} | {title} | {cells}[{low:+.3f}, {high:+.3f}] |")
    return "\n".join(lines)


def plot(scores: dict[str, np.ndarray], sizes: list[int], path: Path) -> None:
    """Draw the learning curves, with intervals over resamples of the validate clips."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, (name, title) in zip(axes, SETS.items(), strict=True):
        zero = scores[f"audioset {name} 0"].mean(axis=0)
        axis.axhline(zero[0], color="tab:grey", linestyle="--", label=SYSTEMS["audioset"])
        for system, colour in (("head", "tab:orange"), ("prior", "tab:blue")):
            means = np.array([scores[f"{system} {name} {size}"].mean(axis=0) for size in sizes])
            low, high = np.array([confidence_interval(values[1:]) for values in means]).T
            axis.plot(sizes, means[:, 0], "o-", color=colour, label=SYSTEMS[system])
            axis.fill_between(sizes, low, high, color=colour, alpha=0.15, linewidth=0)
        axis.set(title=title, xscale="log", xlabel="labelled clips", xticks=sizes, xticklabels=sizes)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("coarse micro AUPRC")
    axes[0].legend(loc="lower right")
    figure.savefig(path)


def main() -> None:
    """Measure the draws, then print the table and draw the figure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.few_labels", description=__doc__)
    parser.add_argument("city", type=Path, help="data set with train/, validate/ and annotations.csv")
    parser.add_argument("results", type=Path, help="folder to write to")
    parser.add_argument("--checkpoint", type=Path, required=True, help="weights such as mn04_as_mAP_432.pt")
    parser.add_argument("--draws", type=int, nargs="+", default=list(range(5)), help="seeds")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="numbers of train clips")
    parser.add_argument(
        "--variants", type=int, choices=range(len(VARIANTS) + 1), default=0,
        help="train on this many variants of each clip by a distant sensor, too",
    )  # fmt: skip
    args = parser.parse_args()
    torch.set_num_threads(1)
    city = City(args.city, extract(args.city, args.checkpoint, args.results / "features.npz"))
    folder = args.results / f"variants_{args.variants}"
    for draw in args.draws:
        path = folder / f"{draw}.npz"
        if not path.exists():
            measure(city, draw, args.sizes, path, variants=VARIANTS[: args.variants])
    draws = [dict(np.load(path)) for path in sorted(folder.glob("*.npz"))]
    scores = {name: np.stack([draw[name] for draw in draws]) for name in draws[0]}
    sizes = [size for size in args.sizes if f"head validate {size}" in scores]
    print(f"{len(draws)} draws\n\n{table(scores, sizes)}")  # noqa: T201
    plot(scores, sizes, folder.with_suffix(".svg"))


if __name__ == "__main__":
    main()
