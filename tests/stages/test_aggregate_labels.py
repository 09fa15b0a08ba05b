"""The stage aggregate_labels with predictions from a CSV file."""

import numpy as np
import pandas as pd
import pytest
from volunteers import crowd

from stages import aggregate_labels
from ust.annotations.rules.relabel import RelabelConfig, estimate_relabel
from ust.annotations.rules.votes import collect_votes
from ust.evaluation.predictions import write_predictions
from ust.util.errors import UserError


def test_model_outputs_may_be_a_file_of_predictions(tmp_path, taxonomy, taxonomy_file):
    annotations, _ = crowd(taxonomy, clips=40)
    columns = {label: f"{label}_presence" for label in taxonomy.labels}
    annotations.rename(columns=columns).to_csv(tmp_path / "annotations.csv", index=False)
    clips = sorted(annotations["audio_filename"].unique())
    values = np.random.default_rng(0).uniform(0.01, 0.99, (len(clips), len(taxonomy.labels)))
    model_outputs = tmp_path / "model_outputs.csv"
    write_predictions(model_outputs, clips, values, taxonomy)
    settings = {"rule": "relabel", "model_outputs": str(model_outputs)}
    params = tmp_path / "params.yaml"
    params.write_text(f"relabel: {{listened: {settings}}}\n")
    files = [str(tmp_path / "annotations.csv"), str(taxonomy_file), str(tmp_path / "labels.csv")]
    arguments = ["listened", *files, "--params", str(params)]

    aggregate_labels.main(arguments)
    found = pd.read_csv(tmp_path / "labels.csv").set_index("audio_filename")
    votes = collect_votes(annotations, taxonomy)
    predictions = pd.DataFrame(values, clips, list(taxonomy.labels))
    expected = estimate_relabel(
        votes, RelabelConfig(model_outputs=str(model_outputs)), predictions=predictions
    )
    np.testing.assert_allclose(found.loc[votes.clips, list(taxonomy.labels)], expected, atol=1e-4)

    write_predictions(model_outputs, clips[1:], values[1:], taxonomy)
    with pytest.raises(UserError, match=clips[0]):
        aggregate_labels.main(arguments)
