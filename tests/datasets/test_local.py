"""Local data sets, which are checked and linked, and the synthetic city."""

import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from conftest import RATE, aggregate
from label_sources import write_annotations

from ust.annotations.annotations import read_annotations
from ust.annotations.taxonomy import is_incomplete, label_name, read_taxonomy
from ust.datasets import class_folders
from ust.datasets.local import link_dataset
from ust.datasets.source import ANNOTATIONS, TAXONOMY, FetchContext
from ust.datasets.synthetic.city import annotation_columns, build_city
from ust.datasets.synthetic.scene import SOUNDS
from ust.util.errors import UserError

CLIPS = {"08_000000.wav": "train", "08_000001.wav": "train", "00_500000.wav": "validate"}
LAYOUTS = {"v1": "{split}/{name}", "v2": "audio/{name}", "ours": "audio/{split}/{name}", "flat": "{name}"}


@pytest.fixture
def make_dataset(tmp_path, taxonomy, taxonomy_file, noise):
    """A function that writes a small data set in one of the layouts."""

    def make(layout="v1"):
        root = tmp_path / "local"
        root.mkdir()
        (root / TAXONOMY).write_bytes(taxonomy_file.read_bytes())
        rows = [(split, name, annotator, {}) for name, split in CLIPS.items() for annotator in (1, 2, 0)]
        write_annotations(root / ANNOTATIONS, taxonomy, rows)
        for name, split in CLIPS.items():
            path = root / LAYOUTS[layout].format(split=split, name=name)
            path.parent.mkdir(parents=True, exist_ok=True)
            sf.write(path, noise, RATE)
        return root

    return make


@pytest.fixture
def target(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_linked_without_copying(make_dataset, target, layout):
    root = make_dataset(layout)
    summary = link_dataset(root, target, skip_bad=False)
    assert summary.clips == {"train": 2, "validate": 1}
    assert summary.conversions == {}
    for name, split in CLIPS.items():
        place = target / "audio" / split / name
        assert place.is_symlink()
        assert place.resolve() == (root / LAYOUTS[layout].format(split=split, name=name)).resolve()
    assert (target / ANNOTATIONS).is_symlink()


def test_audio_is_found_in_several_folders(make_dataset, target, tmp_path):
    """The archives of SONYC-UST v2 unpack to several folders."""
    root = make_dataset("v2")
    roots = [tmp_path / "audio-0", tmp_path / "audio-1"]
    for folder, name in zip([roots[0], roots[1], roots[1]], CLIPS, strict=True):
        (folder / "audio").mkdir(parents=True, exist_ok=True)
        (root / "audio" / name).rename(folder / "audio" / name)
    assert link_dataset(root, target, audio_roots=roots, skip_bad=False).clips == {"train": 2, "validate": 1}


def test_two_candidates_for_a_clip_are_both_named(make_dataset, target):
    """Neither is used, as the annotations do not tell them apart."""
    root = make_dataset("flat")
    for site in ("site_a", "site_b"):
        (root / site).mkdir()
        shutil.copy(root / "08_000000.wav", root / site)
    (root / "08_000000.wav").unlink()
    with pytest.raises(UserError) as error:
        link_dataset(root, target, skip_bad=False)
    both = f"{root / 'site_a/08_000000.wav'}, {root / 'site_b/08_000000.wav'}"
    assert f"08_000000.wav: may be {both}; keep one of them" in str(error.value)
    assert "1 of 3 audio files cannot be used" in str(error.value)
    summary = link_dataset(root, target, skip_bad=True)
    assert summary.clips == {"train": 1, "validate": 1}
    assert both in summary.skipped[0]


@pytest.mark.parametrize(
    ("files", "taken"),
    [
        (["train/08_000000.flac"], "train/08_000000.flac"),  # another format with the same stem
        (["train/08_000000.wav", "audio/08_000000.wav"], "train/08_000000.wav"),  # of its split
        (["audio/08_000000.wav", "audio/08_000000.flac"], "audio/08_000000.wav"),  # of its name
        (["train/08_000000.wav", "old/08_000000.flac", "train/08_000000.ogg"], "train/08_000000.wav"),
        (["train/08_000000.flac", "validate/08_000000.ogg"], "train/08_000000.flac"),
        (["train/08_000000.flac", "audio/08_000000.wav"], None),  # either may be meant
        (["a/train/08_000000.wav", "b/train/08_000000.wav"], None),
        (["audio/08_000000.flac", "audio/08_000000.ogg"], None),
    ],
)
def test_clip_is_chosen_among_files_of_its_stem(make_dataset, target, noise, files, taken):
    root = make_dataset()
    (root / "train/08_000000.wav").unlink()
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        sf.write(root / name, noise, RATE)
    if taken is None:
        with pytest.raises(UserError, match=r"08_000000\.wav: may be"):
            link_dataset(root, target, skip_bad=False)
    else:
        link_dataset(root, target, skip_bad=False)
        assert (target / "audio/train/08_000000.wav").resolve() == (root / taken).resolve()


def test_file_reached_by_several_links_counts_once(make_dataset, target):
    root = make_dataset("v2")
    (root / "again").symlink_to(root / "audio")
    (root / "one").mkdir()
    (root / "one" / "08_000000.wav").symlink_to(root / "audio" / "08_000000.wav")
    assert link_dataset(root, target, skip_bad=False).clips == {"train": 2, "validate": 1}


def test_incomplete_clips_are_used_and_named(make_dataset, target):
    root = make_dataset()
    path = root / "train/08_000000.wav"
    path.write_bytes(path.read_bytes()[: 44 + 2 * 4 * RATE])
    summary = link_dataset(root, target, skip_bad=False)
    assert summary.clips == {"train": 2, "validate": 1}
    assert summary.incomplete == (f"{path}: incomplete: read 4.0 s of 10.0 s",)
    assert summary.conversions == {"shorter than 10 s": 1}


def test_usable_but_unusual_files_are_counted(make_dataset, target, noise):
    root = make_dataset()
    sf.write(root / "train/08_000000.wav", np.stack([noise, noise], axis=1), RATE)
    sf.write(root / "train/08_000001.wav", noise[:RATE], 22_050)
    summary = link_dataset(root, target, skip_bad=False)
    assert summary.conversions == {"more than one channel": 1, "other sample rate": 1, "shorter than 10 s": 1}


@pytest.fixture
def with_bad_files(make_dataset):
    root = make_dataset()
    (root / "train/08_000000.wav").unlink()
    (root / "validate/00_500000.wav").write_bytes(b"")
    return root


def test_all_bad_files_are_listed_at_once(with_bad_files, target):
    with pytest.raises(UserError) as error:
        link_dataset(with_bad_files, target, skip_bad=False)
    message = str(error.value)
    assert "2 of 3 audio files cannot be used" in message
    assert "08_000000.wav: no such file" in message
    assert "00_500000.wav: the file is empty" in message
    assert "data.on_bad_audio" in message
    assert list(target.iterdir()) == []


def test_silent_clips_and_odd_headers_do_not_stop_the_others(make_dataset, target):
    """A silent clip is listed with a remedy; a clip with a wrong length in its header is read."""
    root = make_dataset()
    silent, odd = root / "train/08_000000.wav", root / "validate/00_500000.wav"
    sf.write(silent, np.zeros(441_000), 44_100)
    content = bytearray(odd.read_bytes())
    content[4:8] = (len(content) + 1000).to_bytes(4, "little")
    odd.write_bytes(content)
    with pytest.raises(UserError) as error:
        link_dataset(root, target, skip_bad=False)
    message = str(error.value)
    assert "1 of 3 audio files cannot be used; to go on without them" in message
    assert "set data.on_bad_audio to skip" in message
    assert "08_000000.wav: is silent" in message
    assert link_dataset(root, target, skip_bad=True).clips == {"train": 1, "validate": 1}


def test_skip_bad_leaves_out_bad_files(with_bad_files, target):
    summary = link_dataset(with_bad_files, target, skip_bad=True)
    assert summary.clips == {"train": 1}
    assert len(summary.skipped) == 2
    left = pd.read_csv(target / ANNOTATIONS)
    assert set(left["audio_filename"]) == {"08_000001.wav"}
    assert [p.name for p in (target / "audio").rglob("*.wav")] == ["08_000001.wav"]
    original = pd.read_csv(with_bad_files / ANNOTATIONS)
    assert len(original) == 9  # the source is as it was


def test_skip_bad_reads_headers_with_spaces(with_bad_files, target):
    path = with_bad_files / ANNOTATIONS
    path.write_text(path.read_text().replace("audio_filename", " audio_filename "))
    link_dataset(with_bad_files, target, skip_bad=True)
    assert set(pd.read_csv(target / ANNOTATIONS)["audio_filename"]) == {"08_000001.wav"}


def test_no_usable_recording_in_class_folders_is_an_error(tmp_path, target):
    """Even if unusable recordings are skipped."""
    path = tmp_path / "sounds" / "tram" / "a.wav"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no sound")
    data = SimpleNamespace(path="sounds", on_bad_audio="skip", folder=class_folders.FolderConfig())
    context = FetchContext(target, target, lambda path: tmp_path / path, tmp_path)
    with pytest.raises(UserError, match=r"sounds: no recording can be used:\n.*a\.wav: cannot be decoded"):
        class_folders.fetch(context, data)


def test_no_usable_file_is_an_error_even_with_skip(with_bad_files, target):
    (with_bad_files / "train/08_000001.wav").unlink()
    with pytest.raises(UserError, match="no audio file can be used"):
        link_dataset(with_bad_files, target, skip_bad=True)


def test_missing_folder_is_named(tmp_path, target):
    with pytest.raises(UserError, match=r"data\.path should name the folder"):
        link_dataset(tmp_path / "nowhere", target, skip_bad=False)


@pytest.mark.parametrize("name", [ANNOTATIONS, TAXONOMY])
def test_a_folder_without_a_file_of_the_layout_is_an_error(make_dataset, target, name):
    root = make_dataset()
    (root / name).unlink()
    message = rf"has no {name}; data\.path should have .* set data\.source to folder"
    with pytest.raises(UserError, match=message):
        link_dataset(root, target, skip_bad=False)


@pytest.fixture(scope="module")
def city(tmp_path_factory):
    folder = tmp_path_factory.mktemp("city")
    build_city(folder, seed=1, clips={"train": 30, "validate": 16})
    taxonomy = read_taxonomy(folder / TAXONOMY)
    return folder, taxonomy, read_annotations(folder / ANNOTATIONS, taxonomy)


def test_city_has_the_70_columns_of_the_real_file(city, taxonomy):
    table = pd.read_csv(city[0] / ANNOTATIONS)
    assert len(table.columns) == 70
    assert list(table.columns) == annotation_columns(taxonomy)
    proximity = table[[name for name in table.columns if name.endswith("_proximity")]]
    assert set(proximity.to_numpy().ravel()) == {"-1", "near", "far", "notsure"}


def test_every_class_has_its_own_sound(city):
    _, taxonomy, annotations = city
    known = [label for label in taxonomy.fine if not is_incomplete(label)]
    assert len(known) == 23
    assert {label_name(label) for label in known} == set(SOUNDS)
    rng = [np.random.default_rng(0) for _ in SOUNDS]
    sounds = [sound(r, 2 * RATE) for r, sound in zip(rng, SOUNDS.values(), strict=True)]
    assert all(np.isfinite(s).all() and len(s) == 2 * RATE for s in sounds)
    spectra = [np.abs(np.fft.rfft(s)) for s in sounds]
    spectra = np.array([s / np.linalg.norm(s) for s in spectra])
    assert (spectra @ spectra.T - np.eye(len(SOUNDS))).max() < 0.9
    counts = annotations[annotations["annotator_id"] == 0][list(taxonomy.fine)].sum()
    assert (counts > 0).sum() > 12


def test_city_has_the_structure_of_sonyc(city):
    folder, taxonomy, annotations = city
    sensors = annotations.groupby("split")["sensor_id"].agg(set)
    assert not sensors["train"] & sensors["validate"]
    volunteers = annotations[annotations["annotator_id"] > 0]
    assert (volunteers.groupby("audio_filename").size() == 3).all()
    assert not (volunteers[list(taxonomy.labels)] == -1).any().any()
    team = annotations[annotations["annotator_id"] < 0]
    assert set(team["split"]) == {"validate"}
    assert ((team[list(taxonomy.coarse)] != -1).sum(axis=1) == 1).all()
    truth = annotations[annotations["annotator_id"] == 0]
    assert (truth["split"] == "validate").all()
    assert len(truth) == 16
    for path in (folder / "audio").rglob("*.wav"):
        info = sf.info(path)
        assert (info.samplerate, info.frames, info.channels, info.subtype) == (RATE, 441_000, 1, "PCM_16")
    assert len(list((folder / "audio").rglob("*.wav"))) == 46


def test_simulated_volunteers_err_but_mostly_agree_with_truth(city):
    _, taxonomy, annotations = city
    truth = aggregate(annotations, taxonomy, threshold=0.5, soft=False)
    truth = truth[truth["split"] == "validate"].set_index("audio_filename")[list(taxonomy.coarse)]
    volunteers = annotations[(annotations["split"] == "validate") & (annotations["annotator_id"] > 0)]
    marked = volunteers[list(taxonomy.coarse)].to_numpy() == 1
    there = truth.loc[volunteers["audio_filename"]].to_numpy() == 1
    assert 0.6 < (marked & there).sum() / there.sum() < 0.98
    assert 0 < (marked & ~there).sum() / (~there).sum() < 0.1


@pytest.mark.whole
def test_equal_seeds_give_equal_cities(city, tmp_path):
    build_city(tmp_path / "a", seed=1, clips={"train": 30, "validate": 16})
    build_city(tmp_path / "b", seed=2, clips={"train": 1, "validate": 1})
    for path in sorted(city[0].rglob("*")):
        if path.is_file():
            assert (tmp_path / "a" / path.relative_to(city[0])).read_bytes() == path.read_bytes()
    name = next((tmp_path / "b" / "audio" / "validate").iterdir()).name
    assert (tmp_path / "a" / ANNOTATIONS).read_bytes() != (tmp_path / "b" / ANNOTATIONS).read_bytes()
    assert name.endswith("_500000.wav")
