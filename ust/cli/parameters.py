"""Check all of params.yaml at once, so that a mistake in the last stage's section stops the first stage."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError, create_model

from ust.annotations.rules.registry import LabelQuality, check_label_quality, check_rules
from ust.audio.augmentation import Augment
from ust.datasets.registry import Data
from ust.evaluation.config import Evaluate
from ust.evaluation.submission import Submit
from ust.features.registry import NETWORKS, FeatureRow, parse_feature
from ust.features.registry import TABLES as FEATURE_TABLES
from ust.models.checkpoints import Checkpoint, Predict
from ust.reports.leaderboard import Leaderboard
from ust.training.config import SystemConfig
from ust.training.ensemble import EnsembleRow
from ust.training.registry import TABLES, TRAINERS, build_system_config, check_networks
from ust.util.config import Compute, Name, Section, explain_validation_error, parameter_error
from ust.util.documents import read_yaml
from ust.util.errors import shorten

Rows = dict[Name, dict[str, Any]]
EMBEDDING_INPUTS = ("embedding", "frames", "vggish")  # inputs of networks; the others are spectrograms
SECTIONS: dict[str, Any] = {
    "data": Data,
    "labels": Rows,
    "relabel": Rows,
    "label_quality": LabelQuality,
    "augment": Augment,
    "spectrograms": Rows,
    "embeddings": Rows,
    "model": dict[Name, Any],
    "systems": Rows,
    "hierarchies": Rows,
    "pretrained": Rows,
    "ensembles": dict[Name, EnsembleRow],
    "checkpoints": dict[Name, Checkpoint],
    "predict": Predict,
    "evaluate": Evaluate,
    "submission": Name,
    "submit": Submit,
    "compute": Compute,
    **{name: trainer.settings for name, trainer in TRAINERS.items()},
}


def check_params(path: Path) -> dict[str, Any]:
    """Check a parameter file and return its content."""
    content = read_yaml(path)
    check_params_content(path, content)
    return content


def check_params_content(path: Path, content: dict[str, Any]) -> None:
    """Check the content of a parameter file, which need not exist yet; `path` names it in messages."""
    fields = {name: (kind, ...) for name, kind in SECTIONS.items()}
    fields["leaderboard"] = (Leaderboard | None, None)  # in presets/leaderboard.yaml only
    # A network that computes no embedding needs no section.
    fields |= {name: (network.settings | None, None) for name, network in NETWORKS.items()}
    model = create_model("Params", __base__=Section, **fields)
    problems = check_networks(content["model"]) if isinstance(content.get("model"), dict) else []
    try:
        params = model.model_validate(content)
    except ValidationError as error:
        problems = explain_validation_error(error, model) + problems
    if problems:
        raise parameter_error(path, problems)
    features, problems = _features(params)
    problems += _labels(params)
    system_problems, with_folds = _systems(params, content, features)
    problems += [*system_problems, *_ensembles(params, with_folds), *_checkpoints(params)]
    problems += _leaderboard(params)
    if problems:
        raise parameter_error(path, problems)


def _features(params: Any) -> tuple[dict[str, FeatureRow | None], list[str]]:
    """Return the rows of spectrograms and embeddings by name, None for a wrong one, and their problems."""
    features: dict[str, FeatureRow | None] = {}
    problems = []
    for table in FEATURE_TABLES:
        for name, row in getattr(params, table).items():
            if name in features:
                problems.append(f"{table}.{name}: there is a spectrogram of that name; give it another")
            features[name], row_problems = parse_feature(table, name, row)
            problems += row_problems
            network = row_problems or features[name].feature.network
            if not row_problems and network and getattr(params, network) is None:
                problems.append(f"{network}: is missing, should be given: {table}.{name} uses the network")
    if not features:
        problems.append("spectrograms: is empty, and so is embeddings; should have a feature")
    return features, problems


def _labels(params: Any) -> list[str]:
    problems = check_rules("labels", params.labels) + check_rules("relabel", params.relabel)
    problems += check_label_quality(params.label_quality)
    problems += [
        f"relabel.{name}: there is a row of labels of that name; give it another"
        for name in params.relabel
        if name in params.labels
    ]
    files = [f"data/features/{feature}.h5" for feature in params.embeddings]
    for name, row in params.relabel.items():
        model_outputs = row.get("model_outputs", ".csv")  # `check_rules` reports a missing one
        if str(model_outputs) not in files and not str(model_outputs).endswith(".csv"):
            problems.append(
                f"relabel.{name}.model_outputs: is {model_outputs!r}, should be the file of a row of "
                f"embeddings, {', '.join(files) or 'of which there is none'}, or a .csv of predictions"
            )
    if params.evaluate.labels not in params.labels:
        problems.append(f"evaluate.labels: is {params.evaluate.labels!r}, should be a row of labels")
    return problems


def _systems(
    params: Any, content: dict[str, Any], features: dict[str, FeatureRow | None]
) -> tuple[list[str], set[str]]:
    """Return the problems of systems, and the names of those that save out-of-fold predictions."""
    problems: list[str] = []
    with_folds: set[str] = set()
    systems_of_problem: dict[str, list[str]] = {}  # many systems may share a wrong feature
    names: set[str] = set()
    for table in TABLES:
        for name, row in getattr(params, table).items():
            where = f"{table}.{name}"
            if name in names:
                problems.append(f"{where}: there is a system of that name; give it another")
            names.add(name)
            config, row_problems = build_system_config(table, name, row, content)
            problems += row_problems
            if config is not None:
                problems += _check_names(params, features, where, config)
                with_folds |= {name} if config.training.has_folds else set()
                if problem := _check_shapes(params, features, config):
                    systems_of_problem.setdefault(problem, []).append(name)
    problems += [f"{problem} (of {shorten(names)})" for problem, names in systems_of_problem.items()]
    return problems, with_folds


def _ensembles(params: Any, with_folds: set[str]) -> list[str]:
    """Return the problems of ensembles, whose members need out-of-fold predictions."""
    problems = []
    known = {name for table in TABLES for name in getattr(params, table)}
    for name, row in params.ensembles.items():
        where = f"ensembles.{name}"
        if name in known:
            problems.append(f"{where}: there is a system of that name; give it another")
        if row.labels not in params.labels and row.labels not in params.relabel:
            problems.append(f"{where}.labels: is {row.labels!r}, should be a row of labels")
        if row.first == row.second:
            problems.append(f"{where}.second: is {row.second!r}, should be another than first")
        for key in ("first", "second"):
            member = getattr(row, key)
            if member in with_folds:
                continue
            reason = "keeps no out-of-fold predictions" if member in known else "is no system"
            problems.append(
                f"{where}.{key}: is {member!r}, which {reason}; should be a system of train_head, one of "
                "train_finetune with folds, or an ensemble above this one"
            )
        with_folds = with_folds | {name}
    return problems


def _check_names(
    params: Any, features: dict[str, FeatureRow | None], where: str, config: SystemConfig
) -> list[str]:
    """Return what is wrong with the names of labels, features and architecture in a row."""
    row = config.row
    if row.labels not in params.labels and row.labels not in params.relabel:
        return [f"{where}.labels: is {row.labels!r}, should be a row of labels"]
    if row.architecture not in params.model:
        return [f"model.{row.architecture}: is missing, should be given, if only as {{}}"]
    if missing := [name for name in row.features if name not in features]:
        return [f"{where}.features: {', '.join(missing)} should be rows of spectrograms or embeddings"]
    return []


def _check_shapes(params: Any, features: dict[str, FeatureRow | None], config: SystemConfig) -> str | None:
    """Return why a system cannot take its features; None if it can, or if a feature itself is wrong."""
    shapes = {}
    for name, feature in config.inputs.items():
        row = features.get(feature)
        network = row and row.feature.network
        if row is None or (network and getattr(params, network) is None):
            return None
        if row.feature.is_embedding != (name in EMBEDDING_INPUTS):
            kinds = ("an embedding", "a spectrogram")
            is_one, wanted = kinds if row.feature.is_embedding else kinds[::-1]
            architecture = config.row.architecture
            return f"the feature {feature} is {is_one}, the architecture {architecture} takes {wanted}"
        settings = row.settings.model_dump() | (getattr(params, network).model_dump() if network else {})
        shapes[name] = row.feature.shape(row.feature.config_from(settings))
    try:
        config.check_shapes(shapes)
    except ValueError as error:
        return str(error)
    return None


def _checkpoints(params: Any) -> list[str]:
    """Return the problems of checkpoints and of the submission."""
    systems = {name for table in (*TABLES, "ensembles") for name in getattr(params, table)}
    problems = [
        f"checkpoints.{name}.model: is {row.model!r}, should begin with a row of systems, hierarchies, "
        "pretrained or ensembles"
        for name, row in params.checkpoints.items()
        if row.model.split("/")[0] not in systems
    ]
    if params.submission not in params.checkpoints:
        there = ", ".join(params.checkpoints)
        problems.append(f"submission: is {params.submission!r}, should be one of checkpoints: {there}")
    return problems


def _leaderboard(params: Any) -> list[str]:
    """Return the problems of the leaderboard, which only presets/leaderboard.yaml has."""
    if params.leaderboard is None:
        return []
    systems, rows = params.leaderboard.systems, ", ".join(params.checkpoints)
    problems = [
        f"leaderboard.systems: has {name!r}, should have rows of checkpoints: {rows}"
        for name in systems
        if name not in params.checkpoints
    ]
    if params.leaderboard.against not in systems:
        problems.append(
            f"leaderboard.against: is {params.leaderboard.against!r}, should be one of leaderboard.systems: "
            f"{', '.join(systems)}"
        )
    return problems
