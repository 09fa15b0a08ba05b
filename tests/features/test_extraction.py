"""Resuming an extraction from its parts, and extracting by shard."""

import numpy as np
import pytest
import soundfile
from conftest import ROOT

from ust.features import extraction
from ust.features.extraction import extract
from ust.features.registry import read_feature
from ust.features.store import find_rows

ROW = read_feature(ROOT / "params.yaml", "logmel")


@pytest.fixture
def rows(tmp_path, monkeypatch):
    """Seven clips of noise, the last equal to the first; a part has two rows."""
    monkeypatch.setattr(extraction, "CHUNK", 2)
    folder = tmp_path / "audio" / "train"
    folder.mkdir(parents=True)
    for number in range(7):
        samples = np.random.default_rng(number % 6).normal(0, 0.1, 8_000)
        soundfile.write(folder / f"{number}.wav", samples, 8_000)
    return find_rows(tmp_path / "audio")


@pytest.fixture
def computed(monkeypatch):
    """Names of the clips whose features were computed, in order, by a stand-in in this process."""
    names = []

    def process(process_clip, row, config):
        names.append(row.clip)
        return np.full(ROW.shape, float(row.clip[0]), np.float16)

    monkeypatch.setattr(extraction, "_process_or_explain", process)
    monkeypatch.setattr(extraction, "_run_parallel", extraction._run_sequential)
    return names


def run(path, rows, **options):
    extract(path, "logmel", ROW.feature, rows, ROW.settings.model_dump(), **options)


def interrupt_after(count):
    """Return a progress callback that raises KeyboardInterrupt after a number of clips."""

    def progress(results, **_):
        for number, result in enumerate(results):
            if number == count:
                raise KeyboardInterrupt
            yield result

    return progress


@pytest.fixture
def expected(tmp_path, rows, computed):
    """Bytes of the feature file that an extraction without interruption writes."""
    run(tmp_path / "whole.h5", rows)
    assert computed == [f"{number}.wav" for number in range(6)]
    computed.clear()
    return (tmp_path / "whole.h5").read_bytes()


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_interrupted_extraction_computes_only_the_other_clips(tmp_path, rows, computed, expected, count):
    path = tmp_path / "logmel.h5"
    with pytest.raises(KeyboardInterrupt):
        run(path, rows, progress=interrupt_after(count))
    assert not path.exists()
    computed.clear()
    run(path, rows)
    assert computed == [f"{number}.wav" for number in range(count, 6)]
    assert path.read_bytes() == expected
    assert not list(tmp_path.glob(".*.parts"))


def test_shards_together_compute_each_clip_and_the_last_run_none(tmp_path, rows, computed, expected):
    path = tmp_path / "logmel.h5"
    for number in (2, 0, 1):
        run(path, rows[:6], shard=(number, 3))
    assert sorted(computed) == [f"{number}.wav" for number in range(6)]
    computed.clear()
    run(path, rows)
    assert not computed
    assert path.read_bytes() == expected


def test_values_of_a_file_that_another_process_replaces_are_those_of_their_clips(
    tmp_path, rows, computed, monkeypatch
):
    """The other process holds the lock and adds clips before the existing ones, which moves their rows."""
    path, lock_folder = tmp_path / "logmel.h5", extraction.lock_folder
    run(path, rows[3:6])
    expected = path.read_bytes()

    def wait_for_other(folder):
        monkeypatch.setattr(extraction, "lock_folder", lock_folder)
        run(path, rows[:6])
        return lock_folder(folder)

    monkeypatch.setattr(extraction, "lock_folder", wait_for_other)
    run(path, rows[3:6])
    assert path.read_bytes() == expected


def flip_bit(file):
    """Flip a bit in the middle of a part, which the checksum of a row detects."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_values_of_a_damaged_part_are_computed_again(tmp_path, rows, computed, expected):
    path = tmp_path / "logmel.h5"
    run(path, rows, shard=(0, 1))
    first, second, _ = sorted(tmp_path.glob(".*.parts/*.h5"))
    first.write_bytes(first.read_bytes()[:-100])
    flip_bit(second)
    computed.clear()
    run(path, rows)
    assert len(computed) == 3
    assert path.read_bytes() == expected


def test_damaged_part_of_one_clip_is_replaced(tmp_path, rows, computed, expected, monkeypatch):
    """The new part has the name of the damaged one, which has been opened to find the damage."""
    monkeypatch.setattr(extraction, "CHUNK", 1)
    path = tmp_path / "logmel.h5"
    run(path, rows, shard=(0, 1))
    part = sorted(tmp_path.glob(".*.parts/*.h5"))[0]
    flip_bit(part)
    computed.clear()
    run(path, rows)
    assert len(computed) == 1
    assert path.read_bytes() == expected


def test_more_parts_than_files_may_be_open(tmp_path, rows, computed, expected, monkeypatch):
    monkeypatch.setattr(extraction, "OPEN_FILES", 1)
    path = tmp_path / "logmel.h5"
    run(path, rows, shard=(0, 1))
    run(path, rows)
    assert path.read_bytes() == expected
