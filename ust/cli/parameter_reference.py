"""Write docs/parameters.md, the reference of all parameters, from the classes that define them.

python -m ust.cli.parameter_reference > docs/parameters.md
"""

import json
import sys
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel

INTRODUCTION = """# Parameters

All parameters of `params.yaml`, with their type, range and default. Parameters that have a default may be
left out. A row of `systems`, `hierarchies` or `pretrained` then takes the value from the section of its
trainer and from the section of its architecture in `model`. The sections `train_augmented` and
`train_hierarchical` take those of `train`. `python -m ust.cli.parameter_reference` makes this page.
"""


def parameter_reference() -> str:
    """Return the page as Markdown."""
    from ust.annotations.rules.registry import RULES
    from ust.cli.parameters import SECTIONS
    from ust.features.registry import FEATURES, NETWORKS
    from ust.models.checkpoints import Checkpoint
    from ust.models.context import ContextConfig
    from ust.models.registry import ARCHITECTURES
    from ust.training.config import ContextRow, HierarchyRow, PretrainedRow
    from ust.training.ensemble import EnsembleRow
    from ust.training.registry import TRAINERS

    parts = [INTRODUCTION, "## Sections\n"]
    for name, kind in SECTIONS.items():
        if (
            isinstance(kind, type)
            and issubclass(kind, BaseModel)
            and name not in TRAINERS
            and name != "model"
        ):
            parts += _chapter(name, kind)
    groups: dict[str, dict[str, Any]] = {
        "Keys of a row": {
            "systems": ContextRow,
            "hierarchies": HierarchyRow,
            "pretrained": PretrainedRow,
            "ensembles": EnsembleRow,
            "checkpoints": Checkpoint,
        },
        "Pretrained networks": {name: network.settings for name, network in NETWORKS.items()},
        "Kinds of features": {f"kind: {name}": feature.settings for name, feature in FEATURES.items()},
        "Label rules": {name: rule.settings for name, rule in RULES.items()},
        "Architectures": {name: network.Config for name, network in ARCHITECTURES.items()},
        "Time and place": {"context": ContextConfig},
        "Trainers": {name: trainer.settings for name, trainer in TRAINERS.items()},
    }
    for title, kinds in groups.items():
        parts.append(f"## {title}\n")
        for name, kind in kinds.items():
            parts += _chapter(name, kind)
    return "\n".join(parts).rstrip() + "\n"


def _chapter(name: str, kind: type[BaseModel]) -> list[str]:
    """Return the heading and the table of a class, or one line if it has no parameters."""
    rows = list(_rows(kind, ""))
    if not rows:
        return [f"### `{name}`\n\nNo parameters.\n"]
    table = ["| parameter | type | default | meaning |", "| --- | --- | --- | --- |", *rows]
    return [f"### `{name}`\n", "\n".join(table) + "\n"]


def _rows(section: type[BaseModel], prefix: str) -> Iterator[str]:
    """Yield a table row for each parameter, those of nested sections included."""
    for key, field in section.model_fields.items():
        name = prefix + (field.alias or key)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _rows(field.annotation, f"{name}.")
            continue
        default = field.get_default(call_default_factory=True, validated_data={})
        # As in params.yaml: null, true and false as in JSON, text without quotes.
        text = json.dumps(default) if default is None or isinstance(default, bool) else str(default)
        shown = "" if field.is_required() else f"`{text}`"
        kind = _describe_type(field.annotation, field.metadata).replace("|", "\\|")
        meaning = " ".join((field.description or "").replace("``", "`").split())
        yield f"| `{name}` | {kind} | {shown} | {meaning} |"


def _describe_type(annotation: Any, metadata: Any = ()) -> str:
    """Return the type and the range of a parameter in words."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return _describe_type(inner, [*metadata, *more])
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    arguments = [argument for argument in get_args(annotation) if argument is not type(None)]
    if type(None) in get_args(annotation):
        return " or ".join([*(_describe_type(argument, metadata) for argument in arguments), "null"])
    if get_origin(annotation) in (list, dict):
        return f"{get_origin(annotation).__name__} of {_describe_type(arguments[-1])}"
    if annotation is Any:
        return "any"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    names = {int: "integer", float: "number", bool: "true or false", str: "text"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation))) + _range(metadata)


def _range(metadata: Any) -> str:
    """Return the bounds of a number, such as " from 0 to 1"."""
    words = {"Gt": "above", "Ge": "at least", "Lt": "below", "Le": "at most"}
    bounds = []
    for item in metadata:
        for bound in getattr(item, "metadata", [item]):
            name = type(bound).__name__
            if name in words:
                value = getattr(bound, name.lower())
                bounds.append(
                    f"{words[name]} {value:,}" if isinstance(value, int) else f"{words[name]} {value:g}"
                )
    return f" {', '.join(bounds)}" if bounds else ""


if __name__ == "__main__":
    sys.stdout.write(parameter_reference())
