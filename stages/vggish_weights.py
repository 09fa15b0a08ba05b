"""Make VGGish's weights: convert the AudioSet checkpoint, or draw them from a seed."""

import argparse
from pathlib import Path

from stages import from_project
from ust import params
from ust.console import done, log, parse, run
from ust.device import prepare
from ust.errors import UserError
from ust.fetch import cache_folder, fetch
from ust.vggish_weights import (
    CHECKPOINT_URL,
    PCA_URL,
    check_smoke_figures,
    random_variables,
    read_checkpoint,
    save_weights,
)


def main() -> None:
    """Write weights.safetensors and vggish.json, which says what they are."""
    parser = argparse.ArgumentParser(prog="python -m stages.vggish_weights", description=__doc__)
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--checkpoint-url", default=CHECKPOINT_URL)
    parser.add_argument("--pca-url", default=PCA_URL)
    args = parse(parser)
    settings, compute = params.load(args.params, "vggish", "compute")
    prepare(device="cpu", threads=compute.threads)

    if settings.weights == "random":
        variables = random_variables(settings.seed, final_relu=settings.final_relu)
    elif settings.checkpoint:
        variables = read_checkpoint(from_project(settings.checkpoint), from_project(settings.pca))
        try:
            check_smoke_figures(variables, final_relu=settings.final_relu)
        except UserError as error:
            log.warning("warning: %s", error)
    else:
        folder = cache_folder() / "vggish"
        checkpoint = fetch(args.checkpoint_url, folder, name="vggish_model.ckpt", md5=None)
        pca = fetch(args.pca_url, folder, name="vggish_pca_params.npz", md5=None)
        variables = read_checkpoint(checkpoint, pca)
        check_smoke_figures(variables, final_relu=settings.final_relu)
    save_weights(args.out, variables, weights=settings.weights, final_relu=settings.final_relu)
    done("%s: VGGish with %s weights", args.out, settings.weights)


if __name__ == "__main__":
    run(main)
