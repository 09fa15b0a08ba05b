"""Train a system of params.yaml and save its best checkpoints."""

import argparse
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from stages import run_stage
from ust.cli.console import log, log_done, parse_args, progress

if TYPE_CHECKING:
    from ust.training.config import SystemConfig
    from ust.training.context import TrainingData
    from ust.training.trainer import Epoch


class History:
    """Learning curves of a system's networks; logs one line per epoch."""

    def __init__(self, system: str) -> None:
        self.system, self.rows = system, []

    def on_epoch(self, node: str, epoch: "Epoch") -> None:
        """Add an epoch and log its losses and metrics."""
        self._add(node, epoch)
        shown = {key: value for key, value in epoch.figures().items() if key != "restarts" or value}
        text = "  ".join(f"{key} {value:.4g}" for key, value in shown.items())
        log.info("%s epoch %d  %s%s", node or self.system, epoch.number, text, "  best" if epoch.best else "")

    def on_resume(self, node: str, epochs: "list[Epoch]") -> None:
        """Add the epochs of an interrupted training that is resumed."""
        for epoch in epochs:
            self._add(node, epoch)
        log.info("%s: resuming after epoch %d", node or self.system, len(epochs))

    def _add(self, node: str, epoch: "Epoch") -> None:
        network = f"{self.system}/{node}" if node else self.system
        self.rows.append({"network": network, "epoch": epoch.number, **epoch.figures()})

    def write(self, path: Path) -> None:
        """Write a CSV file with the columns ``network`` and ``epoch`` and a column for each figure."""
        import pandas as pd

        from ust.util.tables import write_csv

        table = pd.DataFrame(self.rows or {"network": [], "epoch": []})  # empty if no network was trained
        write_csv(path, table, float_format="%.6g")


def training_digest(
    args: argparse.Namespace, config: "SystemConfig", data: "TrainingData", *compute: Any
) -> str:
    """Return a digest of everything that a training depends on; it is resumed only if the digest is equal."""
    from ust.features.feature import NETWORK_FILE
    from ust.util.digests import digest, file_digest, source_digest, versions

    contents = [
        [part.rows.tobytes(), part.targets.tobytes(), *(file.digest() for file in part.features.values())]
        for part in (data.train, data.validate)
    ]
    root = sorted(args.root.glob("*")) if args.root else []
    # The description of a pretrained network has the digest of its weights.
    pretrained = [args.pretrained / NETWORK_FILE] if args.pretrained else []
    groups = data.train.groups.tolist() if config.training.has_folds else []
    settings = {
        "sensors": digest(*groups),
        "name": args.system,
        "config": config.to_dict(),
        "data": [digest(*parts) for parts in contents],
        "files": [file_digest(path) for path in (args.taxonomy, *root)],
        "pretrained": [file_digest(path) for path in pretrained],
        "compute": compute,
        "versions": versions("numpy", "scikit-learn", "torch"),
    }
    return digest(source_digest(), source_digest("stages/train.py"), json.dumps(settings, sort_keys=True))


@contextmanager
def _folders(args: argparse.Namespace, key: str) -> Iterator[tuple[Path, Path]]:
    """Yield the folders for models and for training states; only the first process writes into them."""
    from ust.training import distributed
    from ust.util.folders import resumable_folder

    if distributed.rank() == 0:
        with resumable_folder(args.out, key, by="train", force=args.force) as (out, states):
            distributed.broadcast(states)
            yield out, states
    else:
        states = distributed.broadcast(None)
        with TemporaryDirectory() as scratch:
            yield Path(scratch), states


def main(argv: Sequence[str] | None = None) -> None:
    """Write the models of a system and its learning curves."""
    parser = argparse.ArgumentParser(prog="python -m stages.train", description=__doc__)
    parser.add_argument("system", help="a row of systems, hierarchies or pretrained in params.yaml")
    parser.add_argument("features", type=Path, help="folder of the stages extract")
    parser.add_argument("labels", type=Path, help="folder of the stages aggregate_labels")
    parser.add_argument("taxonomy", type=Path, help="dcase-ust-taxonomy.yaml")
    parser.add_argument("out", type=Path, help="folder for the models")
    parser.add_argument("history", type=Path, help="CSV file to write the learning curves to")
    parser.add_argument(
        "--root", type=Path, help="for a hierarchy with a flat root, the checkpoint of that network"
    )
    parser.add_argument(
        "--pretrained", type=Path, help="folder of the stage weights, for a system of a pretrained network"
    )
    parser.add_argument(
        "--annotations",
        type=Path,
        help="annotations.csv, for folds that keep sensors apart, or for time and place",
    )
    parser.add_argument("--dataset", type=Path, help="dataset.json, to record the source of the data")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parse_args(parser, writes=["history"], replaces=["out"], argv=argv)

    from ust.annotations.annotations import map_clips_to_sensors, read_annotations
    from ust.annotations.labels import read_labels
    from ust.annotations.taxonomy import read_taxonomy
    from ust.features.context import CONTEXT, build_context_features, read_context
    from ust.features.store import open_feature_files
    from ust.training import distributed
    from ust.training.context import (
        TrainingContext,
        check_inputs,
        check_root,
        describe_model,
        training_data,
    )
    from ust.training.registry import TRAINERS, read_system_config
    from ust.training.train import NetworkSettings
    from ust.util.config import Compute, read_sections
    from ust.util.device import check_precision, prepare_device
    from ust.util.digests import source_digest
    from ust.util.documents import read_json
    from ust.util.errors import UserError

    (compute,) = read_sections(args.params, compute=Compute)
    config = read_system_config(args.params, args.system)
    trainer, parallel = TRAINERS[config.row.trainer], ()
    if compute.processes > 1 and trainer.several_processes:
        parallel = (compute.processes, compute.synchronise)
        if not distributed.is_launched():
            arguments = sys.argv[1:] if argv is None else argv
            distributed.launch(compute.processes, ["-m", "stages.train", *arguments])
            return
    elif compute.processes > 1:
        if distributed.launch_rank():
            return  # of the processes that torchrun started, only the first trains
        log.info(
            "%s: %s trains in one process; compute.processes is %d",
            args.system, config.row.trainer, compute.processes,
        )  # fmt: skip
    if getattr(config.row, "root", None) == "flat":
        check_root(args.root)
    device = prepare_device(device=compute.device, threads=compute.threads)
    if isinstance(config.training, NetworkSettings):
        check_precision(config.training.precision, device, f"{config.row.trainer}.precision")
    if parallel:
        distributed.init_process_group(compute.processes, device)
        if distributed.rank():
            log.setLevel(logging.CRITICAL)  # only the first process logs
    taxonomy = read_taxonomy(args.taxonomy)
    labels = read_labels(args.labels / f"{config.row.labels}.csv", taxonomy)

    sensors = {}
    if config.training.has_folds:
        if args.annotations is None:
            raise UserError(
                f"{args.system}: its folds keep sensors apart; give --annotations, the file with sensor_id"
            )
        sensors = map_clips_to_sensors(read_annotations(args.annotations, taxonomy))
    contexts = {}
    if config.context is not None:
        if args.annotations is None:
            raise UserError(
                f"{args.system}: takes time and place; give --annotations, the file with their columns"
            )
        contexts = read_context(args.annotations)
    cache_gib = config.training.cache_gib / distributed.world_size()  # each process caches its own rows
    with open_feature_files(args.features, config.inputs, cache_gib=cache_gib) as features:
        check_inputs(args.system, config, features)
        if config.context is not None:
            features[CONTEXT] = build_context_features(contexts, next(iter(features.values())))
        data = training_data(config, labels, features, taxonomy, sensors)
        key = training_digest(args, config, data, compute.threads, device.type, *parallel)
        history, metadata = History(args.system), describe_model(config, taxonomy, features)
        metadata["digests"] = {
            "architecture": source_digest(f"ust/models/{config.row.architecture}.py", "ust/models/layers.py"),
            "features": {name: features[input_].digest() for input_, name in config.inputs.items()},
        }
        if args.dataset:  # tagging warns if a system was trained on synthetic sound
            metadata["data_source"] = read_json(args.dataset, made_by="download")["source"]
        with _folders(args, key) as (out, states), distributed.report_lost_processes():
            work = TrainingContext(
                args.system, taxonomy, device, out, states, metadata, args.root, history, progress,
                args.pretrained, compute.synchronise,
            )  # fmt: skip
            trainer.fit(config, data, work)
        if distributed.rank() == 0:
            history.write(args.history)
    log_done("%s: trained on %d rows, chosen on %d clips", args.out, len(data.train), len(data.validate))


if __name__ == "__main__":
    run_stage(main)
