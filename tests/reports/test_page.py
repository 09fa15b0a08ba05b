"""The report page: content, escaping, and use in a browser."""

import base64
import io
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from conftest import RATE
from matplotlib.figure import Figure
from PIL import Image

from stages import describe
from ust.datasets.synthetic.city import write_taxonomy
from ust.features.store import Row, write_features
from ust.reports import feature_figure
from ust.reports.media import chart_svg, clip_mp3, data_uri, mel_ticks, spectrogram_png
from ust.reports.page import TEMPLATE, Finding, clip_content, doubtful_content, find_examples, limit_clips
from ust.util.documents import render_template

SYSTEMS = ["first", "second<b>"]


@pytest.fixture
def tables(taxonomy):
    """Labels and predictions of four clips; only engine is ever present."""
    clips = pd.Index(["a.wav", "b.wav", "c.wav", "d.wav"], name="audio_filename")
    labels = pd.DataFrame(0.0, clips, list(taxonomy.labels))
    labels["1_engine"] = [1, 1, 0, 0]
    predicted = pd.DataFrame(0.1, clips, list(taxonomy.labels))
    predicted["1_engine"] = [0.9, 0.2, 0.7, 0.6]
    return labels, predicted


def test_the_most_confident_mistakes_and_hits(tables, taxonomy):
    found = find_examples("s", "validate", *tables, taxonomy, mistakes=2, hits=2)
    assert [(f.clip, f.kind, f.rank) for f in found] == [
        ("b.wav", "miss", 0),
        ("c.wav", "false alarm", 1),
        ("a.wav", "hit", 0),
    ]
    assert [f.confidence for f in found] == pytest.approx([0.8, 0.7, 0.9])


def test_unknown_label_is_not_a_mistake(tables, taxonomy):
    labels, predicted = tables
    labels.loc["c.wav", "1_engine"] = np.nan
    found = find_examples("s", "validate", labels, predicted, taxonomy, mistakes=2, hits=2)
    assert [(f.clip, f.kind) for f in found] == [
        ("b.wav", "miss"), ("d.wav", "false alarm"), ("a.wav", "hit")
    ]  # fmt: skip


def test_few_clips_are_divided_among_labels():
    def finding(rank, clip, system):
        return Finding(rank, clip, "validate", system, "1_engine", "hit", 0.9 - 0.1 * rank)

    findings = [finding(0, "a", "s"), finding(1, "b", "s"), finding(0, "c", "t"), finding(1, "a", "t")]
    assert limit_clips(findings, 2) == [findings[0], findings[2], findings[3]]
    assert limit_clips(findings, 9) == findings


def test_spectrograms_have_low_bands_at_the_bottom():
    logmel = np.full((128, 862), -80, np.float16)
    logmel[:10] = 0
    image = Image.open(io.BytesIO(spectrogram_png(logmel)))
    assert image.size == (431, 128)
    pixels = np.asarray(image.convert("L"))
    assert pixels[-10:].min() > 200
    assert pixels[:-10].max() < 50


def test_ticks_are_on_librosas_mel_axis():
    librosa = pytest.importorskip("librosa")
    centres = librosa.mel_frequencies(130, fmin=0, fmax=22_050)[1:-1]
    for name, place in mel_ticks(RATE):
        hertz = float(name.split()[0]) * (1000 if "k" in name else 1)
        assert abs(np.argmin(abs(centres - hertz)) / 128 - place) < 0.02
    assert [name for name, _ in mel_ticks(16_000)] == ["250 Hz", "1 kHz", "4 kHz"]


def test_audio_and_charts_are_deterministic(noise):
    assert clip_mp3(noise, RATE) == clip_mp3(noise, RATE)
    samples, rate = sf.read(io.BytesIO(clip_mp3(noise, RATE)))
    assert rate == RATE
    assert len(samples) / rate == pytest.approx(10, abs=0.1)
    curves = {"a": pd.DataFrame({"epoch": [1, 2], "loss": [0.5, 0.4]}), "b": pd.DataFrame({"epoch": [1]})}
    assert chart_svg(curves, "loss", "loss") == chart_svg(curves, "loss", "loss")
    assert "currentColor" in chart_svg(curves, "loss", "loss")


SHAPES = {"logmel": (128, 862), "vggish": (10, 128), "mn": (384,), "mn_frames": (32, 384),
          "mn_logmel": (128, 1000)}  # fmt: skip


@pytest.mark.parametrize("names", [("logmel", "vggish"), ("logmel",), ("mn",), tuple(SHAPES)])
def test_describe_plots_the_extracted_features(tmp_path, monkeypatch, annotated, names):
    """One panel per row of spectrograms and embeddings; files of removed rows are not read."""
    folder, taxonomy = annotated
    clip = "a.wav"
    for name in SHAPES:
        row = Row(clip, "original", "train", tmp_path / clip)
        dtype = "uint8" if name == "vggish" else "float32"
        value = np.arange(np.prod(SHAPES[name])).reshape(SHAPES[name]) % 200
        kind = "mn" if name == "mn_frames" else name
        attributes = {"kind": kind, **({"sample_rate": RATE, "hop_length": 512} if name == "logmel" else {})}
        attributes |= {} if name.endswith("logmel") else {"network": "random"}
        write_features(tmp_path / f"{name}.h5", name, [row], [name], [value.astype(dtype)],
                       shape=SHAPES[name], dtype=dtype, attributes=attributes)  # fmt: skip
    for name in SHAPES.keys() - set(names):
        (tmp_path / f"{name}.h5").write_text("of an earlier run")
    tables = {
        table: {name: {} for name in names if name.endswith("logmel") == (table == "spectrograms")}
        for table in ("spectrograms", "embeddings")
    }
    (tmp_path / "params.yaml").write_text(json.dumps(tables))
    labels = pd.DataFrame(0.0, pd.Index([clip], name="audio_filename"), list(taxonomy.labels))
    labels["1_engine"] = 1.0
    labels["split"] = "train"
    labels.reset_index().set_index("split").to_csv(tmp_path / "labels.csv")
    drawn = []
    monkeypatch.setattr(
        feature_figure, "Figure", lambda **options: drawn.append(Figure(**options)) or drawn[0]
    )
    words = ["describe", folder / "annotations.csv", tmp_path / "labels.csv", folder / "taxonomy.yaml",
             tmp_path, tmp_path / "out", "--params", tmp_path / "params.yaml"]  # fmt: skip
    monkeypatch.setattr("sys.argv", [str(word) for word in words])
    describe.main()
    panels = [axis.get_ylabel().split(":")[0] for axis in drawn[0].axes if axis.get_ylabel()]
    names = sorted(names, key=lambda name: not name.endswith("logmel"))  # spectrograms first
    assert panels == [{"logmel": "log-mel", "vggish": "VGGish"}.get(name, name) for name in names]
    assert drawn[0].axes[0].get_title() == "a.wav: 1_engine"
    assert (tmp_path / "out" / "features.png").read_bytes().startswith(b"\x89PNG")


def test_clip_figure_depends_only_on_its_audio(tables, taxonomy):
    """A 1 kHz tone is bright in the band of 1 kHz."""
    labels, predicted = tables
    tone = np.sin(2 * np.pi * 1000 * np.arange(10 * RATE) / RATE).astype(np.float32)
    annotations = pd.DataFrame(columns=["audio_filename", "annotator_id", *taxonomy.labels])
    found = clip_content("a.wav", tone, labels.loc["a.wav"], annotations, {"s": predicted}, taxonomy)
    picture = Image.open(io.BytesIO(base64.b64decode(found["image"].split(",")[1])))
    columns = np.asarray(picture.convert("L")).astype(int)
    (place,) = [place for name, place in mel_ticks(RATE) if name == "1 kHz"]
    brightest = 1 - columns[:, 200].argmax() / picture.height  # 0 is below
    assert brightest == pytest.approx(place, abs=0.02)


@pytest.fixture
def annotated(tmp_path, taxonomy):
    """A folder with annotations of one clip by three volunteers, and the taxonomy."""
    folder = tmp_path / "raw"
    folder.mkdir()
    write_taxonomy(folder / "taxonomy.yaml")
    shares = [{f"{label}_presence": int(label == "1_engine") for label in taxonomy.labels} for _ in range(3)]
    rows = [
        {"split": "train", "sensor_id": 0, "audio_filename": "a.wav", "annotator_id": number} | share
        for number, share in enumerate(shares, 1)
    ]
    pd.DataFrame(rows).to_csv(folder / "annotations.csv", index=False)
    return folder, taxonomy


@pytest.fixture
def page(tmp_path, taxonomy, noise):
    """A page with thirty findings in two clips, of which one has HTML in its name."""
    clips = {}
    for index, name in enumerate(("a.wav", "</script><script>alert(1)</script>.wav")):
        clips[name] = {
            "image": data_uri(spectrogram_png(np.zeros((128, 862), np.float16) - 40), "image/png"),
            "sound": data_uri(clip_mp3(noise, RATE), "audio/mpeg"),
            "votes": [{"label": "1_engine", "marked": 2, "asked": 3, "agreed": 1 - index}],
            "truth": [True] + [False] * 36,
            "predicted": {system: [0.5] * 37 for system in SYSTEMS},
        }
    findings = []
    for number in range(30):
        system, label = SYSTEMS[number % 2], taxonomy.coarse[number % 3]
        kind = ("miss", "hit", "false alarm")[number // 10]
        clip, split = list(clips)[number % 2], "train" if number < 4 else "validate"
        findings.append(
            {"rank": 0, "clip": clip, "split": split, "system": system, "label": label, "kind": kind,
             "probability": number / 30, "confidence": 0.5 + number / 60}
        )  # fmt: skip
    cell = {"text": "0.500", "interval": "[0.40, 0.60]", "best": True}
    table = {
        "columns": ["fine"],
        "rows": [{"system": system, "cells": [cell]} for system in SYSTEMS],
        "note": "",
    }
    row = {"label": "8_dog", "audio_filename": list(clips)[1], "marked": 1, "asked": 3, "posterior": 0.874}
    chart = chart_svg({"a": pd.DataFrame({"epoch": [1, 2], "loss": [0.5, 0.4]})}, "loss", "loss")
    text = render_template(
        TEMPLATE, html=True,
        metadata={"source": "synthetic", "split": "validate", "clips": 2, "vggish": "random"},
        results=table, classes=table, charts=[{"label": "loss", "svg": chart}],
        doubtful=[doubtful_content(pd.Series(row), noise)],
        labels=taxonomy.coarse, systems=SYSTEMS, chosen=SYSTEMS[0], splits=["train", "validate"],
        data={"labels": taxonomy.labels, "systems": SYSTEMS, "ticks": mel_ticks(RATE),
              "findings": findings, "clips": clips},
    )  # fmt: skip
    path = tmp_path / "report.html"
    path.write_text(text, "utf-8")
    return path, findings


def test_page_is_self_contained_and_escapes_names(page):
    path, findings = page
    text = path.read_text("utf-8")
    outside = re.sub(r'"data:[^"]*"', '""', text)
    assert not re.search(r'(src|href)="(?!["#])', outside)
    assert not re.search(r"@import|url\((?!#)|fetch\(", outside)
    assert "<script>alert" not in text
    assert "<td>1 of 3</td>" in text
    assert "<td>0.87</td>" in text
    assert "second&lt;b&gt;" in text
    embedded = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S).group(1)
    assert json.loads(embedded)["findings"] == findings


@pytest.fixture(params=["desktop", "phone, dark"])
def browser(request):
    """Headless Chromium."""
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    chromedriver = shutil.which("chromedriver")
    if not chromium or not chromedriver:
        pytest.skip("no browser: Debian's packages are chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--autoplay-policy=no-user-gesture-required",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(chromedriver))
    if request.param != "desktop":
        metrics = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        media = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    yield driver
    driver.quit()


def test_a_browser_can_use_it(browser, page):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import Select, WebDriverWait

    path, findings = page
    browser.get(path.as_uri())

    def cards():
        return browser.find_elements(By.CSS_SELECTOR, "article")

    def choose(name, value):
        Select(browser.find_element(By.NAME, name)).select_by_value(value)

    def wanted(**filters):
        return [f for f in findings if all(f[key] == value for key, value in filters.items())]

    # At first the best system on the scored split, the most confident on top.
    assert len(cards()) == min(12, len(wanted(system="first", split="validate")))
    choose("system", "")
    choose("split", "")
    assert len(cards()) == 12
    assert "12 of 30 shown" in browser.page_source
    browser.find_element(By.ID, "more").send_keys(Keys.ENTER)
    assert len(cards()) == 24
    choose("kind", "miss")
    assert len(cards()) == len(wanted(kind="miss"))
    assert all("miss" in card.find_element(By.TAG_NAME, "h3").text for card in cards())
    choose("label", "1_engine")
    assert len(cards()) == len(wanted(kind="miss", label="1_engine"))
    for name in ("kind", "label"):
        choose(name, "")
    shown = [float(card.find_element(By.TAG_NAME, "h3").text.rsplit(" ", 1)[1]) for card in cards()]
    assert shown == sorted(shown, reverse=True)
    choose("sort", "clip")
    names = [card.find_element(By.CLASS_NAME, "name").text.split(", ", 2)[2] for card in cards()]
    assert [name == "a.wav" for name in names] == sorted(name == "a.wav" for name in names)
    choose("label", "8_dog")
    assert "None; change a filter." in browser.page_source
    choose("label", "")
    audio = browser.find_element(By.TAG_NAME, "audio")
    browser.execute_script("arguments[0].muted = true; arguments[0].play()", audio)
    WebDriverWait(browser, 600).until(
        lambda b: b.execute_script("return arguments[0].currentTime", audio) > 0.1
    )
    image = browser.find_element(By.CSS_SELECTOR, "article img")
    browser.execute_script("arguments[0].scrollIntoView()", image)
    WebDriverWait(browser, 600).until(
        lambda b: b.execute_script("return arguments[0].naturalWidth", image) == 431
    )
    for unnamed in browser.find_elements(By.CSS_SELECTOR, "select, button, audio, img"):
        assert unnamed.accessible_name, unnamed.get_attribute("outerHTML")[:100]
    # Only elements that scroll by themselves are wider than the screen.
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    background = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    dark = browser.execute_script("return matchMedia('(prefers-color-scheme: dark)').matches")
    assert background == ("rgb(22, 25, 29)" if dark else "rgb(255, 255, 255)")
    assert browser.get_log("browser") == []
