"""The benchmarks few_labels and shifted on a tiny data set, with random weights."""

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch
from sklearn.metrics import average_precision_score
from volunteers import people

from benchmarks import few_labels, shifted
from ust.audio.recordings import SAMPLE_RATE, load_audio
from ust.features.efficientat.network import MobileNet
from ust.features.efficientat.weights import draw_random_weights
from ust.features.efficientat.windows import window_max_pool
from ust.features.mn_logmel import log_mel
from ust.models.audioset import AudioSet
from ust.models.outputs import raise_coarse_to_fine

WIDTH, SECONDS, TRAIN, VALIDATE = 0.1, 1, 12, 5


@pytest.fixture(scope="module")
def city(tmp_path_factory, taxonomy_file, taxonomy):
    """Clips of noise in six sensors, each with one fine label."""
    folder, rng = tmp_path_factory.mktemp("city"), np.random.default_rng(0)
    (folder / "dcase-ust-taxonomy.yaml").symlink_to(taxonomy_file)
    tables = []
    for split, count, annotators in (("train", TRAIN, (1, 2, 3)), ("validate", VALIDATE, (0,))):
        (folder / split).mkdir()
        names = [f"{i % 6:02d}_{i:05d}{len(tables)}.wav" for i in range(count)]
        votes = [(name, a, {taxonomy.fine[i % 3]: 1}) for i, name in enumerate(names) for a in annotators]
        tables.append(people(taxonomy, votes, split))
        for name in names:
            samples = 0.1 * rng.standard_normal(SECONDS * SAMPLE_RATE)
            sf.write(folder / split / name, samples, SAMPLE_RATE, subtype="PCM_24")
    columns = {label: f"{label}_presence" for label in taxonomy.labels}
    pd.concat(tables).rename(columns=columns).to_csv(folder / "annotations.csv", index=False)
    torch.save(draw_random_weights(3, WIDTH), folder / "mn01.pt")
    return folder


@pytest.mark.whole
def test_the_shifted_clips_are_those_of_the_learning_curves(city, taxonomy, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["shifted", str(city), str(tmp_path / "shifted")])
    shifted.main()
    assert f"{VALIDATE} validate clips changed" in capsys.readouterr().out
    train = sorted((tmp_path / "shifted" / "train").iterdir())
    assert [path.resolve() for path in train] == sorted((city / "train").iterdir())

    results = tmp_path / "results"
    words = [str(city), str(results), "--checkpoint", str(city / "mn01.pt"), "--draws", "0", "--sizes", "12"]
    monkeypatch.setattr("sys.argv", ["few_labels", *words, "--variants", "1"])
    few_labels.main()
    first = capsys.readouterr().out
    few_labels.main()  # the finished draw is kept
    assert capsys.readouterr().out == first
    assert "| 12 | distant sensor |" in first
    assert (results / "variants_1.svg").stat().st_size > 0

    network = MobileNet(WIDTH).eval()
    network.load_state_dict(torch.load(city / "mn01.pt"))
    for name, folder in (("validate", city), ("shifted", tmp_path / "shifted")):
        clips = [load_audio(path, SAMPLE_RATE) for path in sorted((folder / "validate").iterdir())]
        with torch.no_grad():
            expected = [
                window_max_pool(network, torch.from_numpy(log_mel(np.float32(clip), SAMPLE_RATE))[None], 4)[0]
                for clip in clips
            ]
        found = np.load(results / "features.npz")[name]
        np.testing.assert_allclose(found, torch.stack(expected), atol=0.02 * np.abs(found).max())

    scores = np.load(results / "variants_1" / "0.npz")
    assert {len(values) for values in scores.values()} == {1 + few_labels.RESAMPLES}
    config = AudioSet.Config().complete_for_labels(taxonomy, taxonomy.labels)
    values = torch.from_numpy(np.load(results / "features.npz")["validate"])
    untrained = AudioSet(config, 37, {"embedding": values.shape[1:]})
    predicted = raise_coarse_to_fine(torch.sigmoid(untrained(values)), taxonomy)[:, : len(taxonomy.coarse)]
    truth = np.zeros(predicted.shape)
    for clip in range(VALIDATE):
        truth[clip, 0] = taxonomy.fine[clip % 3] in taxonomy.fine[:3]
    area = average_precision_score(truth.ravel(), predicted.numpy().ravel())
    assert scores["audioset validate 0"][0] == pytest.approx(area, abs=0.1)  # the official one interpolates
