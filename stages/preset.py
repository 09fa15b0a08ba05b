"""Set parameters in params.yaml, from files in presets/ or as NAME.OF.PARAMETER=VALUE.

python -m stages.preset pretrained data.source=local data.path=../urban
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages import run_stage
from ust.cli.console import log_done, parse_args


def merge(content: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Update nested mappings in place; null removes a row from its table."""
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(content.get(key), dict):
            merge(content[key], value)
        elif value is None and isinstance(content.get(key), dict):
            del content[key]
        else:
            content[key] = value


def parse_setting(text: str) -> dict[str, Any]:
    """Parse NAME.OF.PARAMETER=VALUE, with a value in YAML, to nested mappings.

    Examples
    --------
    >>> parse_setting("train.lr=0.01")
    {'train': {'lr': 0.01}}
    """
    from ruamel.yaml import YAML, YAMLError

    from ust.util.errors import UserError, single_line

    name, _, value = text.partition("=")
    try:
        parsed = YAML(typ="safe").load(value)
    except YAMLError as error:
        raise UserError(f"{text}: its value is not YAML ({single_line(error, limit=500)})") from None
    for part in reversed(name.split(".")):
        parsed = {part: parsed}
    return parsed


def apply_changes(params: Path, presets: Path, changes: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Return a parameter file with presets and settings applied: its text, with comments, and its content."""
    import io

    from ruamel.yaml import YAML

    from ust.util.documents import read_yaml
    from ust.util.errors import UserError

    yaml = YAML()  # keeps comments and styles
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.representer.add_representer(
        type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
    )

    def load(path: Path) -> Any:
        read_yaml(path)  # raises a UserError if the file is missing or invalid
        return yaml.load(path.read_text("utf-8"))

    content = load(params)
    for change in changes:
        if "=" in change:
            merge(content, parse_setting(change))
            continue
        path = presets / f"{change}.yaml"
        if not path.is_file():
            names = ", ".join(sorted(file.stem for file in presets.glob("*.yaml"))) or "none"
            raise UserError(f"{change}: should be NAME.OF.PARAMETER=VALUE or a preset; {presets} has {names}")
        merge(content, load(path))
    stream = io.StringIO()
    yaml.dump(content, stream)
    return stream.getvalue(), YAML(typ="safe").load(stream.getvalue())


def main(argv: Sequence[str] | None = None) -> None:
    """Write the parameter file, with its comments, after checking it."""
    parser = argparse.ArgumentParser(prog="python -m stages.preset", description=__doc__)
    parser.add_argument("changes", nargs="+", help="name of a file in presets, or NAME.OF.PARAMETER=VALUE")
    parser.add_argument("--presets", type=Path, default=Path("presets"), help="folder of the presets")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="file to read")
    parser.add_argument("--out", type=Path, help="file to write, by default the one that is read")
    args = parse_args(parser, argv=argv)

    from ust.cli.parameters import check_params_content
    from ust.util.files import write_text

    text, content = apply_changes(args.params, args.presets, args.changes)
    out = args.out or args.params
    check_params_content(out, content)
    write_text(out, text)
    log_done("%s: set %s", out, ", ".join(args.changes))


if __name__ == "__main__":
    run_stage(main)
