"""Train a system of params.yaml and keep its best checkpoints."""

import argparse
import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dvclive import Live

from ust import params
from ust.console import done, log, parse, run
from ust.device import prepare
from ust.digests import digest, file_digest, method_digest, project_modules, versions
from ust.features import Features, check_same_rows, open_features
from ust.files import replacing_folder, resuming_folder
from ust.labels import read_labels
from ust.params import BaselineSystem, Hierarchical
from ust.taxonomy import Taxonomy, read_taxonomy
from ust.training.fit import Data, System, Work, check_root, fit, training_data


class Curves(ExitStack):
    """Learning curves of a system's networks, a folder each, and a line of the log for each epoch."""

    def __init__(self, folder: Path, system: str) -> None:
        super().__init__()
        self.folder, self.system, self.lives = folder, system, {}

    def on_epoch(self, node: str, epoch: Any) -> None:
        """Add an epoch, and say how it went."""
        figures = self._draw(node, epoch.number, epoch.figures())
        text = "  ".join(f"{key} {value:.4g}" for key, value in figures.items())
        log.info("%s epoch %d  %s%s", node or self.system, epoch.number, text, "  best" if epoch.best else "")

    def on_resume(self, node: str, epochs: list[Any]) -> None:
        """Add the epochs that a training goes on from."""
        for epoch in epochs:
            self._draw(node, epoch.number, epoch.figures())
        log.info("%s: going on after epoch %d", node or self.system, len(epochs))

    def _draw(self, node: str, number: int, figures: dict[str, float]) -> dict[str, float]:
        if node not in self.lives:
            live = Live(str(self.folder / node), dvcyaml=None, save_dvc_exp=False, report=None)
            self.lives[node] = self.enter_context(live)
        live = self.lives[node]
        live.step = number
        for key, value in figures.items():
            live.log_metric(key, value)
        live.make_summary()
        return figures


def about(system: System, taxonomy: Taxonomy, logmel: Features, vggish: Features) -> dict[str, Any]:
    """What a model says of itself: what makes the same features of any recording."""

    def plain(features: Features) -> dict[str, Any]:
        items = features.attributes.items()
        return {name: value.item() if hasattr(value, "item") else value for name, value in items}

    found = {"architecture": system.architecture, "versions": versions("numpy", "scikit-learn", "torch")}
    found |= {"taxonomy": asdict(taxonomy), "logmel": plain(logmel)}
    if isinstance(system, BaselineSystem) or system.fusion != "none":
        found["vggish"] = plain(vggish)
        found["vggish_weights"] = found["vggish"]["weights"]
        found["vggish_sha256"] = found["vggish"]["sha256"]
    return found


def key(args: argparse.Namespace, system: System, data: Data, compute: params.Compute, device: str) -> str:
    """Stands for all that the training depends on: what is left of one with another is not gone on from."""
    settings = {
        "name": args.system,
        "system": system.model_dump(),
        "data": [
            digest(each.rows.tobytes(), each.targets.tobytes(), *each.logmel.content, *each.vggish.content)
            for each in (data.train, data.validate)
        ],
        "files": [
            file_digest(path) for path in (args.taxonomy, *sorted(args.root.glob("*") if args.root else ()))
        ],
        "compute": [compute.threads, device],
        "versions": versions("numpy", "scikit-learn", "torch"),
    }
    return method_digest([sys.modules[__name__], *project_modules()], settings)


def main() -> None:
    """Write the models of a system and its learning curves."""
    parser = argparse.ArgumentParser(prog="python -m stages.train", description=__doc__)
    parser.add_argument("system", help="a row of systems in params.yaml")
    parser.add_argument("logmel", type=Path, help="HDF5 of the stage extract_logmel")
    parser.add_argument("vggish", type=Path, help="HDF5 of the stage extract_vggish")
    parser.add_argument("labels", type=Path, help="labels.csv")
    parser.add_argument("any_labels", type=Path, help="labels_any.csv, which the baseline learns")
    parser.add_argument("taxonomy", type=Path, help="dcase-ust-taxonomy.yaml")
    parser.add_argument("out", type=Path, help="folder for the models")
    parser.add_argument("--curves", type=Path, required=True, help="folder for the learning curves")
    parser.add_argument(
        "--root", type=Path, help="of a hierarchy with a flat root: that network's checkpoint"
    )
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parse(parser, replaces=["out", "curves"])
    (compute,) = params.load(args.params, "compute")
    system = params.load_system(args.params, args.system)
    if isinstance(system, Hierarchical) and system.root == "flat":
        check_root(args.root)
    device = prepare(device=compute.device, threads=compute.threads)
    taxonomy = read_taxonomy(args.taxonomy)
    labels, any_labels = (read_labels(path, taxonomy) for path in (args.labels, args.any_labels))
    cache = 0 if isinstance(system, BaselineSystem) else system.cache_gib

    with (
        open_features(args.logmel, "logmel", cache_gib=cache) as logmel,
        open_features(args.vggish, "vggish", cache_gib=cache) as vggish,
    ):
        check_same_rows(logmel, vggish)
        data = training_data(system, labels, any_labels, logmel, vggish, taxonomy)
        identity, options = (
            key(args, system, data, compute, device.type),
            {"by": "train", "force": args.force},
        )
        with (
            resuming_folder(args.out, identity, **options) as (out, states),
            replacing_folder(args.curves, **options) as curves,
            Curves(curves, args.system) as listener,
        ):
            work = Work(
                taxonomy, device, out, states, about(system, taxonomy, logmel, vggish), args.root, listener
            )
            fit(args.system, system, data, work)
    done("%s: trained on %d rows, chosen on %d clips", args.out, len(data.train), len(data.validate))


if __name__ == "__main__":
    run(main)
