"""Train the CNN+VGGish network; keep the best coarse and the best fine checkpoint of the run."""

import argparse
from pathlib import Path

import torch
from dvclive import Live

from ust import params
from ust.checkpoints import Checkpoint, save_checkpoint
from ust.console import log, run
from ust.device import prepare
from ust.examples import select
from ust.features import check_same_rows, open_features
from ust.inference import output_labels
from ust.labels import read_labels
from ust.models import CNNVGGish, NetworkConfig
from ust.taxonomy import read_taxonomy
from ust.training import Epoch, Recipe, train


def main() -> None:
    """Write two models and the learning curves."""
    parser = argparse.ArgumentParser(prog="python -m stages.train", description=__doc__)
    parser.add_argument("logmel", type=Path, help="HDF5 of the stage extract_logmel")
    parser.add_argument("vggish", type=Path, help="HDF5 of the stage extract_vggish")
    parser.add_argument("labels", type=Path, help="labels.csv")
    parser.add_argument("taxonomy", type=Path, help="dcase-ust-taxonomy.yaml")
    parser.add_argument("--coarse", type=Path, required=True, help="folder for the best coarse checkpoint")
    parser.add_argument("--fine", type=Path, required=True, help="folder for the best fine checkpoint")
    parser.add_argument("--curves", type=Path, required=True, help="folder for the learning curves")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parser.parse_args()
    model, settings, compute = params.load(args.params, "model", "train", "compute")
    device = prepare(device=compute.device, threads=compute.threads)
    recipe = Recipe(**settings.model_dump())
    taxonomy = read_taxonomy(args.taxonomy)
    labels = read_labels(args.labels, taxonomy)
    outputs = output_labels(recipe.labels, taxonomy)
    folders = {"coarse": [args.coarse], "fine": [args.fine]}
    if recipe.labels == "coarse":
        folders["coarse"].append(args.fine)  # there are no fine scores to choose another by

    with open_features(args.logmel, "logmel") as logmel, open_features(args.vggish, "vggish") as vggish:
        check_same_rows(logmel, vggish)
        examples = select("train", labels, outputs, logmel, vggish, variants=True)
        validate = select("validate", labels, list(taxonomy.labels), logmel, vggish, variants=False)
        torch.manual_seed(recipe.seed)
        network = CNNVGGish(NetworkConfig(len(outputs), **model.model_dump())).to(device)
        rests_on = {
            "vggish_weights": vggish.attributes["weights"],
            "vggish_sha256": vggish.attributes["sha256"],
        }

        with Live(str(args.curves), dvcyaml=None, save_dvc_exp=False, report=None) as live:

            def on_epoch(epoch: Epoch) -> None:
                for level in epoch.best:
                    score = {f"{level}_micro_auprc": getattr(epoch, level), "epoch": epoch.number, **rests_on}
                    for folder in folders[level]:
                        save_checkpoint(folder, Checkpoint(network, outputs, score))
                live.step = epoch.number
                live.log_metric("loss", epoch.loss)
                live.log_metric("coarse_micro_auprc", epoch.coarse)
                live.log_metric("fine_micro_auprc", epoch.fine)
                live.log_metric("lr", epoch.lr)
                live.make_summary()
                log.info(
                    "epoch %d/%d  loss %.4f  coarse %.4f  fine %.4f  lr %.2g%s",
                    *(epoch.number, recipe.max_epochs, epoch.loss, epoch.coarse, epoch.fine, epoch.lr),
                    f"  best {' and '.join(epoch.best)}" if epoch.best else "",
                )

            train(network, examples, validate, taxonomy, recipe, device=device, on_epoch=on_epoch)
    log.info("%s and %s: %d training rows", args.coarse, args.fine, len(examples))


if __name__ == "__main__":
    run(main)
