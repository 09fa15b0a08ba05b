"""Listen to clips and label them on a page in the browser of this machine.

Each answer is written to annotations.csv at once. Several people can review at the same time, each on a
page of their own and under their own name. Ctrl-C stops the server.
"""

import argparse
import secrets
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from ust.cli.console import log, log_done, parse_args, progress
from ust.util.errors import UserError, plural


def main(prog: str = "ust review", argv: Sequence[str] | None = None) -> None:
    """Select clips and serve the page."""
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("folder", type=Path, help="folder made by ust init")
    add("--by", choices=("uncertain", "disputed", "random"),
        help="uncertain: the unlabelled clips with the least certain predictions, the default; "
        "disputed: labelled clips whose labels differ most from the predictions; "
        "random: unlabelled clips")  # fmt: skip
    add("--number", type=int, default=50, help="number of clips, default 50")
    add("--port", type=int, help="port of the server, by default 8737, or a free one")
    add("--seed", type=int, default=2019, help="seed of the random selection, default 2019")
    add("--no-browser", action="store_true", help="print the address without opening a browser")
    args = parse_args(parser, argv=argv)
    if args.number < 1 or (args.port is not None and not 0 <= args.port < 65536):
        parser.error("--number should be at least 1, and --port from 0 to 65535")

    from ust.custom.active_learning import load_review_state, select_clips
    from ust.custom.project import PACKED
    from ust.custom.server import create_app, create_server
    from ust.custom.zero_shot import tag_collection
    from ust.datasets.collection import Collection
    from ust.tagging.pretrained import is_packed

    collection = Collection(args.folder)
    if not is_packed(args.folder / PACKED) and len(collection.clips()):
        try:
            tag_collection(collection, progress=progress)
        except UserError as error:
            log.warning("%s: clips cannot be tagged before training: %s", args.folder, error)
    names, state, predicted = load_review_state(collection)
    by = args.by or ("uncertain" if predicted else "random")
    if by != "random" and not predicted:
        log.warning("%s: there are no tags yet, so clips are selected at random", args.folder)
        by = "random"
    queue = select_clips(by, names, state, count=args.number, seed=args.seed)
    token = secrets.token_urlsafe(24)
    server = create_server(create_app(collection, queue, predicted, token=token), args.port)
    address = f"http://127.0.0.1:{server.port}/?token={token}"
    log.info("%s (%s) to review at", plural(len(queue), "clip"), by)
    sys.stdout.write(address + "\n")
    sys.stdout.flush()
    if not args.no_browser:
        webbrowser.open(address)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        folder = args.folder
        log_done("%s: answers are in annotations.csv; run ust train %s to learn from them", folder, folder)
