"""Train a system of params.yaml and keep its best checkpoints."""

import argparse
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from dvclive import Live

from ust import params
from ust.checkpoints import DESCRIPTION_FILE, Checkpoint, parameter_count, save, save_checkpoint
from ust.console import done, log, parse, run
from ust.device import prepare, seed_torch
from ust.digests import digest, file_digest, method_digest, project_modules, versions
from ust.examples import Examples, select
from ust.features import check_same_rows, open_features
from ust.files import replacing_folder, resuming_folder, write_json
from ust.inference import output_labels
from ust.labels import read_labels
from ust.models import CNNVGGish, NetworkConfig
from ust.taxonomy import Taxonomy, read_taxonomy
from ust.training import baseline, flat, hierarchical
from ust.training.state import TrainingState

Data = tuple[Examples, Examples]
About = dict[str, Any]


def network_for(system: params.CNN, outputs: int, name: str, device: torch.device) -> CNNVGGish:
    """A network of the system's architecture with its own first weights."""
    seed_torch(system.seed, "initialise", name)
    config = NetworkConfig(outputs, system.fusion, system.conv_dropout, system.head_dropout)
    return CNNVGGish(config).to(device)


def draw(live: Live, epoch: dict[str, Any]) -> dict[str, float]:
    """Add an epoch to the learning curves; what was drawn."""
    figures = {key: value for key, value in epoch.items() if key not in ("number", "best")}
    live.step = epoch["number"]
    for key, value in figures.items():
        live.log_metric(key, value)
    live.make_summary()
    return figures


def report(live: Live, name: str, epoch: Any) -> None:
    """Add an epoch to the learning curves and say how it went."""
    text = "  ".join(f"{key} {value:.4g}" for key, value in draw(live, asdict(epoch)).items())
    log.info("%s epoch %d  %s%s", name, epoch.number, text, "  best" if epoch.best else "")


def state_of(folder: Path, name: str, live: Live) -> TrainingState:
    """Where to go on from, its epochs drawn."""
    state = TrainingState.read(folder / f"{name}.safetensors")
    for epoch in state.epochs:
        draw(live, epoch)
    if state.epochs:
        log.info("%s: going on after epoch %d", name, len(state.epochs))
    return state


def plain(attributes: dict[str, Any]) -> About:
    """A feature file's attributes as JSON takes them: what makes the same features of any recording."""
    return {name: value.item() if hasattr(value, "item") else value for name, value in attributes.items()}


def train_flat(
    name: str, system: params.FlatSystem, taxonomy: Taxonomy, data: Data, about: About, out: Path,
    curves: Callable[..., Live], device: torch.device, states: Path,
) -> None:  # fmt: skip
    """One network; its best coarse and its best fine checkpoint."""
    outputs = output_labels(system.outputs, taxonomy)
    columns = [taxonomy.labels.index(label) for label in outputs]
    train, validate = data
    network = network_for(system, len(outputs), name, device)
    about |= {"outputs": system.outputs, "parameters": parameter_count(network)}

    with curves() as live:

        def on_epoch(epoch: flat.Epoch) -> None:
            for level in epoch.best:
                score = {"epoch": epoch.number, f"{level}_micro_auprc": getattr(epoch, level)}
                save_checkpoint(out / level, Checkpoint(network, outputs, score | about))
            report(live, name, epoch)

        train = train.having(slice(None), train.targets[:, columns])
        flat.train_flat(
            network, train, validate, taxonomy, system, device=device, name=name, on_epoch=on_epoch,
            state=state_of(states, name, live),
        )  # fmt: skip


def train_hierarchy(
    name: str, system: params.HierarchicalSystem, taxonomy: Taxonomy, data: Data, about: About, out: Path,
    curves: Callable[..., Live], device: torch.device, states: Path,
) -> None:  # fmt: skip
    """A network for every parent node; the checkpoint of each with the lowest validation loss."""
    trained, parameters = [], 0
    for node in hierarchical.nodes(*data, taxonomy, negatives=system.negatives):
        network = network_for(system, len(node.labels), node.name, device)
        with curves(node.name) as live:

            def on_epoch(epoch: hierarchical.Epoch, node=node, network=network, live=live) -> None:
                if epoch.best:
                    score = {"epoch": epoch.number, "validation_loss": epoch.validation_loss}
                    save_checkpoint(out / node.name, Checkpoint(network, node.labels, score | about))
                report(live, node.name, epoch)

            state = state_of(states, node.name, live)
            hierarchical.train_node(network, node, system, device=device, on_epoch=on_epoch, state=state)
        trained.append(node.name)
        parameters += parameter_count(network)
    for label in hierarchical.untrained(trained, taxonomy):
        log.warning("warning: too few clips of %s to train on: its fine labels will be 0", label)
    about |= {"outputs": "all", "parameters": parameters}
    write_json(out / DESCRIPTION_FILE, {"kind": "hierarchy", "nodes": trained, "about": about})


def train_baseline(
    name: str, system: params.BaselineSystem, taxonomy: Taxonomy, data: Data, about: About, out: Path,
    curves: Callable[..., Live], device: torch.device, states: Path,
) -> None:  # fmt: skip
    """A classifier of frames; its checkpoint with the lowest validation loss."""
    shape = {"hidden_layers": system.hidden_layers, "hidden_size": system.hidden_size}
    labels = baseline.outputs(system, taxonomy)

    with curves() as live:

        def on_epoch(epoch: baseline.Epoch, network: torch.nn.Module) -> None:
            if epoch.best:
                of = {"outputs": system.outputs, "parameters": parameter_count(network)}
                score = {"epoch": epoch.number, "validation_loss": epoch.validation_loss}
                description = {"kind": "baseline", "network": {"outputs": len(labels), **shape}}
                save(out, network, description | {"labels": labels, "about": score | about | of})
            report(live, name, epoch)

        baseline.train_baseline(*data, taxonomy, system, device=device, name=name, on_epoch=on_epoch)


TRAINERS = {
    params.FlatSystem: train_flat,
    params.HierarchicalSystem: train_hierarchy,
    params.BaselineSystem: train_baseline,
}


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
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parse(parser)
    (compute,) = params.load(args.params, "compute")
    system = params.load_system(args.params, args.system)
    device = prepare(device=compute.device, threads=compute.threads)
    taxonomy = read_taxonomy(args.taxonomy)
    is_baseline = isinstance(system, params.BaselineSystem)
    labels_file = args.any_labels if is_baseline else args.labels
    labels = read_labels(labels_file, taxonomy)
    cache = 0 if is_baseline else system.cache_gib

    with (
        open_features(args.logmel, "logmel", cache_gib=cache) as logmel,
        open_features(args.vggish, "vggish", cache_gib=cache) as vggish,
    ):
        check_same_rows(logmel, vggish)
        columns = list(taxonomy.labels)
        train = select("train", labels, columns, logmel, vggish, variants=not is_baseline)
        validate = select("validate", labels, columns, logmel, vggish, variants=False)
        packages = versions("numpy", "scikit-learn", "torch")
        about = {"architecture": system.architecture, "versions": packages}
        about |= {"taxonomy": asdict(taxonomy), "logmel": plain(logmel.attributes)}
        if is_baseline or system.fusion != "none":
            about["vggish"] = plain(vggish.attributes)
            about["vggish_weights"] = about["vggish"]["weights"]
            about["vggish_sha256"] = about["vggish"]["sha256"]
        inputs = [file_digest(path) for path in (labels_file, args.taxonomy)]
        inputs += [digest(*features.content) for features in (logmel, vggish)]
        key = method_digest(
            [sys.modules[__name__], *project_modules()],
            {
                "name": args.system,
                "system": system.model_dump(),
                "inputs": inputs,
                "compute": [compute.threads, device.type],
                "versions": packages,
            },
        )
        with resuming_folder(args.out, key) as (out, states), replacing_folder(args.curves) as curves:

            def live(node: str = "") -> Live:
                return Live(str(curves / node), dvcyaml=None, save_dvc_exp=False, report=None)

            TRAINERS[type(system)](
                args.system, system, taxonomy, (train, validate), about, out, live, device, states
            )
    done("%s: trained on %d rows", args.out, len(train))


if __name__ == "__main__":
    run(main)
