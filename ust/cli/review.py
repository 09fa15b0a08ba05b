"""Listen to clips and say what you hear, on a page in the browser of this machine.

What is said is written to annotations.csv at once. Several people may do so at the same time, each with a
page and a name of their own. Ctrl-C ends it.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ust.cli.console import log, log_done, parse_args


def main(prog: str = "ust review", words: Sequence[str] | None = None) -> None:
    """Choose clips, and serve the page."""
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="of ust init")
    parser.add_argument(
        "--by", choices=("uncertain", "disputed", "random"),
        help="unlabelled clips that the tagger is least sure of (default, once it is trained), labelled ones "
        "that it disagrees with, or any unlabelled ones",
    )  # fmt: skip
    parser.add_argument("--number", type=int, default=50, help="of clips, default 50")
    parser.add_argument("--port", type=int, default=0, help="of the page's address, by default any")
    parser.add_argument("--seed", type=int, default=2019, help="of the random ones, default 2019")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    args = parse_args(parser, words=words)
    if args.number < 1 or not 0 <= args.port < 65536:
        parser.error("--number should be at least 1, and --port from 0 to 65535")

    import secrets
    import webbrowser

    from ust.custom.active_learning import load_review_state, select_clips
    from ust.custom.project import PREDICTIONS
    from ust.custom.server import create_app, serve
    from ust.datasets.collection import Collection

    collection = Collection(args.folder)
    names, known, predicted = load_review_state(collection)
    by = args.by or ("uncertain" if predicted else "random")
    if by != "random" and not predicted:
        log.warning("%s: has no %s yet; ust train makes them", args.folder, PREDICTIONS)
        by = "random"
    queue = select_clips(by, names, known, count=args.number, seed=args.seed)
    token = secrets.token_urlsafe(24)
    server = serve(create_app(collection, queue, predicted, token=token), args.port)
    address = f"http://127.0.0.1:{server.server_port}/?token={token}"
    log.info("%d clips (%s) to review at", len(queue), by)
    sys.stdout.write(address + "\n")
    sys.stdout.flush()
    if not args.no_browser:
        webbrowser.open(address)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        log_done("%s: what was said is in annotations.csv; ust train %s learns it", args.folder, args.folder)
