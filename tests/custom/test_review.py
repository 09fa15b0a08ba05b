"""The review server: saved reviews, access control, and the order of clips."""

import json
import re
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
import soundfile as sf
from commands import run_ust
from conftest import ROOT

from ust.custom.active_learning import STRATEGIES, ReviewState, select_clips
from ust.custom.server import create_app, create_server
from ust.datasets.collection import Collection
from ust.datasets.importing import import_unlabelled, taxonomy_from_classes

TOKEN = "a-token"


@pytest.fixture
def collection(tmp_path):
    made = Collection.create(tmp_path / "city", taxonomy_from_classes(["tram", "market: voices"]))
    for number in range(6):
        path = tmp_path / "sounds" / f"{number}.wav"
        path.parent.mkdir(exist_ok=True)
        sf.write(path, 0.1 * np.random.default_rng(number).standard_normal(8000), 8000)
    import_unlabelled(made, sorted((tmp_path / "sounds").iterdir()), tmp_path)
    return made


@pytest.fixture
def queue(collection):
    return list(collection.clips().index)


@pytest.fixture
def client(collection, queue):
    app = create_app(collection, queue, {queue[0]: {"1_tram": 0.25}}, token=TOKEN)
    return app.test_client()


def answer(clip, who="Ada", **answers):
    return {"clip": clip, "annotator": who, "answers": answers or {"1_tram": "yes"}}


def post(client, body, **headers):
    return client.post("/answers", json=body, headers={"X-UST-Token": TOKEN} | headers)


def test_review_is_saved_in_sonyc_layout(client, collection, queue):
    found = post(client, answer(queue[2], **{"1_tram": "unsure", "2-1_voices": "yes"}))
    assert (found.status_code, found.json) == (200, {"saved": queue[2]})
    (row,) = collection.annotations().to_dict("records")
    assert row == {"split": "train", "sensor_id": queue[2].split("_")[0], "audio_filename": queue[2],
                   "annotator_id": 1, "1_tram": -1, "2_market": -1, "2-1_voices": 1}  # fmt: skip
    saved = client.get(f"/answers?token={TOKEN}&annotator=Ada").json
    assert saved == {queue[2]: {"1_tram": "unsure", "2-1_voices": "yes"}}  # 2_market is unlabelled
    assert client.get(f"/answers?token={TOKEN}&annotator=Bo").json == {}


def test_review_page_loads_nothing_external(client):
    page = client.get(f"/?token={TOKEN}")
    assert page.status_code == 200
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert not re.search(r"https?://", page.text)
    assert page.headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("change", [
    {"X-UST-Token": "other"}, {"X-UST-Token": ""}, {"Origin": "https://evil.example"},
    {"Host": "evil.example"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:1"},
])  # fmt: skip
def test_foreign_tokens_origins_and_hosts_are_refused(client, collection, queue, change):
    assert post(client, answer(queue[0]), **change).status_code == 403
    assert not (collection.folder / "annotations.csv").exists()


def test_cross_site_form_is_refused(client, collection, queue):
    """A form can send the token in the address, but cannot set a header."""
    found = client.post(f"/answers?token={TOKEN}", data=json.dumps(answer(queue[0])))
    assert found.status_code == 403
    for path in ("/", "/answers", f"/clips/{queue[0]}/sound"):
        assert client.get(path).status_code == 403
    assert not (collection.folder / "annotations.csv").exists()


@pytest.mark.parametrize("body", [
    b"", b"{", b"[]", b"5", b'{"clip": "x"}', json.dumps(answer("../annotations.csv")).encode(),
    json.dumps(answer("x")).encode(), "no-answer", "no-name", "long-name", "other-label", "other-answer",
    "nested",
])  # fmt: skip
def test_invalid_review_is_refused(client, collection, queue, body):
    if isinstance(body, str):
        body = json.dumps({
            "no-answer": answer(queue[0]) | {"answers": {}}, "no-name": answer(queue[0], " "),
            "long-name": answer(queue[0], "x" * 200),
            "other-label": answer(queue[0], **{"9_x": "yes"}),
            "other-answer": answer(queue[0], **{"1_tram": "5"}),
            "nested": answer(queue[0], **{"1_tram": [["yes"]]}),
        }[body]).encode()  # fmt: skip
    found = client.post("/answers", data=body, headers={"X-UST-Token": TOKEN})
    assert found.status_code == 400
    assert found.json["error"]
    assert not (collection.folder / "annotations.csv").exists()


@pytest.mark.parametrize(
    "path", ["/clips/..%2Fannotations.csv/sound", "/clips/x.flac/sound", "/clips/{}/etc"]
)
def test_server_sends_only_clips(client, queue, path):
    assert client.get(path.format(queue[0]) + f"?token={TOKEN}").status_code == 404


def test_clip_has_spectrogram_and_audio(client, queue):
    assert client.get(f"/clips/{queue[0]}/picture?token={TOKEN}").data.startswith(b"\x89PNG")
    sound = client.get(f"/clips/{queue[0]}/sound?token={TOKEN}")
    assert sound.mimetype == "audio/mpeg"
    assert len(sound.data) > 1000


def test_concurrent_reviews_are_all_saved(collection, queue):
    server = create_server(create_app(collection, queue, {}, token=TOKEN), 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def send(task):
        who, clip = task
        body = json.dumps(answer(clip, who)).encode()
        request = Request(f"http://127.0.0.1:{server.port}/answers", body, {"X-UST-Token": TOKEN})
        with urlopen(request) as found:
            return found.status

    try:
        tasks = [(who, clip) for clip in queue for who in ("Ada", "Bo")]
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(send, tasks)) == {200}
    finally:
        server.shutdown()
    names = {number: name for name, number in collection.annotators().items()}
    rows = collection.annotations()
    assert {(names[row.annotator_id], row.audio_filename) for row in rows.itertuples()} == set(tasks)
    assert len(rows) == len(tasks)


def start(collection):
    """Start the review command; return its process and address."""
    words = ["review", str(collection.folder), "--no-browser"]
    process = subprocess.Popen(
        [sys.executable, "-m", "ust", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return process, process.stdout.readline().strip()


@pytest.mark.whole
def test_acknowledged_reviews_survive_a_killed_server(collection, queue):
    """The server is killed four times, at random moments while reviews arrive."""
    rng = np.random.default_rng(0)
    acknowledged = set()
    waiting = [bare_server(collection)]
    for turn in range(4):
        waiting.append(bare_server(collection))  # starts while the previous one is in use
        child = waiting.pop(0)
        address = f"http://127.0.0.1:{int(child.stdout.readline())}/answers"
        killer = threading.Timer(float(rng.uniform(0, 0.02)), child.kill)
        first = int(rng.integers(2, 20))  # the reviews that come in before
        for number in range(10_000):
            if number == first:
                killer.start()
            who, clip = f"{turn}-{number}", queue[number % len(queue)]
            body = json.dumps(answer(clip, who)).encode()
            try:
                with urlopen(Request(address, body, {"X-UST-Token": TOKEN})) as found:
                    assert found.status == 200
            except (OSError, HTTPError, ValueError):
                break
            acknowledged.add((who, clip))
        killer.join()
        child.wait()
    waiting[0].kill()
    waiting[0].wait()
    names = {number: name for name, number in collection.annotators().items()}
    there = {(names[row.annotator_id], row.audio_filename) for row in collection.annotations().itertuples()}
    assert acknowledged <= there
    assert len(there) - len(acknowledged) <= 4  # written, but killed before the response
    assert len(acknowledged) >= 4 * 2


def bare_server(collection):
    """Start a server that prints its port."""
    words = [sys.executable, "-c", SERVER, str(collection.folder)]
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)


SERVER = f"""
import sys
from pathlib import Path
from ust.datasets.collection import Collection
from ust.custom.server import create_app, create_server
collection = Collection(Path(sys.argv[1]))
server = create_server(create_app(collection, list(collection.clips().index), {{}}, token={TOKEN!r}), 0)
print(server.port, flush=True)
server.serve_forever()
"""


@pytest.mark.whole
@pytest.mark.skipif(shutil.which("chromedriver") is None, reason="needs Chromium and its driver")
def test_browsers_save_reviews_and_report_a_dead_server(collection, queue):
    from selenium import webdriver
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    options = webdriver.ChromeOptions()
    for word in ("--headless=new", "--no-sandbox", "--window-size=900,900"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = shutil.which("chromedriver")
    services = [webdriver.ChromeService(executable_path=driver) for _ in range(2)]
    browsers = [webdriver.Chrome(options=options, service=service) for service in services]
    process, address = start(collection)
    try:
        for browser, who in zip(browsers, ("Ada", "../<script>alert(1)</script>"), strict=True):
            browser.get(address)
            browser.find_element(By.ID, "annotator").send_keys(who, Keys.ENTER)
        for browser, keys in zip(browsers, ("1n", "333"), strict=True):
            body = browser.find_element(By.TAG_NAME, "body")
            body.send_keys(*keys, Keys.ENTER)
            WebDriverWait(browser, 10).until(
                lambda one: one.find_element(By.ID, "message").text.startswith("Saved")
            )
            assert browser.find_element(By.ID, "place").text.startswith("2 of 6")
            assert browser.get_log("browser") == []
        process.send_signal(signal.SIGKILL)
        process.wait()
        body.send_keys("1n", Keys.ENTER)
        WebDriverWait(browser, 10).until(
            lambda one: one.find_element(By.ID, "message").text.startswith("Not saved")
        )
        assert browser.find_element(By.ID, "place").text.startswith("2 of 6")
    finally:
        for browser in browsers:
            browser.quit()
        process.kill()
        process.communicate()
    numbers = collection.annotators()
    rows = collection.annotations().set_index("annotator_id")
    assert rows.loc[numbers["Ada"], ["1_tram", "2-1_voices"]].tolist() == [1, 0]
    assert rows.loc[numbers["../<script>alert(1)</script>"], ["1_tram", "2-1_voices"]].tolist() == [-1, -1]
    assert len(rows) == 2


def test_every_sonyc_label_has_a_key():
    page = (ROOT / "ust" / "custom" / "review.html.jinja").read_text()
    (keys,) = re.findall(r'const keys = "(\w+)"', page)
    assert len(set(keys)) == len(keys) >= 37
    assert "n" not in keys  # no to all others


def test_import_after_review_fills_unlabelled_but_not_uncertain_classes(client, collection, queue):
    post(client, answer(queue[0], **{"1_tram": "unsure", "2-1_voices": "no"}))
    assert collection.unsure("Ada") == {queue[0]: ["1_tram"]}
    from ust.datasets.formats.base import Status

    statuses = dict.fromkeys(collection.taxonomy.labels, Status.INFERRED_ABSENT)
    collection.merge({(queue[0], "Ada"): statuses}, source="labels.csv")
    (row,) = collection.annotations().to_dict("records")
    assert [row[label] for label in ("1_tram", "2_market", "2-1_voices")] == [-1, 0, 0]


def test_server_uses_its_default_port_if_free(collection, queue, monkeypatch, capfd):
    """Browsers store the annotator's name by port; a second server gets a free port."""
    from ust.custom import server

    free = create_server(create_app(collection, queue, {}, token=TOKEN), 0)
    monkeypatch.setattr(server, "DEFAULT_PORT", free.port)
    free.server_close()
    first = create_server(create_app(collection, queue, {}, token=TOKEN))
    second = create_server(create_app(collection, queue, {}, token=TOKEN))
    assert first.port == server.DEFAULT_PORT != second.port
    for each in (first, second):
        each.server_close()
    assert capfd.readouterr() == ("", "")


def test_review_page_lists_annotators(client, queue):
    post(client, answer(queue[0], "Grace"))
    page = client.get(f"/?token={TOKEN}").text
    assert '"annotators": ["Grace"]' in page


def test_review_command_names_invalid_input(collection, tmp_path):
    def ust(*words):
        code, _, errors = run_ust(["review", *words], ROOT)
        assert "Traceback" not in errors
        return code, errors

    code, text = ust(str(tmp_path))
    assert code == 1
    assert "ust init" in text
    code, text = ust(str(collection.folder), "--port", "99999")
    assert code == 1
    assert "--port" in text


def known(seed=0, clips=40, labels=4):
    rng = np.random.default_rng(seed)
    labelled = rng.random(clips) < 0.3
    labels = (rng.random((clips, labels)) < 0.3) * 1.0
    return ReviewState(rng.random(labels.shape), rng.standard_normal((clips, 5)), labels, labelled)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_strategy_chooses_each_clip_once(strategy):
    found = STRATEGIES[strategy](known(), 100, 3)  # more than there are
    assert len(set(found)) == len(found) > 0
    assert found == STRATEGIES[strategy](known(), 100, 3)
    assert set(known().labelled[found]) == {strategy == "disputed"}


def test_uncertain_strategy_avoids_similar_clips():
    predicted = np.array([[0.5], [0.5], [0.4], [0.01], [0.5]])
    embeddings = np.array([[1.0, 0], [1, 0.001], [0, 1], [-1, 0], [0.7, -0.7]])
    labelled = np.array([False, False, False, False, True])
    found = STRATEGIES["uncertain"](ReviewState(predicted, embeddings, predicted, labelled), 3, 0)
    assert set(found[:2]) != {0, 1}  # similar clips are not chosen together
    assert 3 not in found[:2]


def test_disputed_strategy_orders_by_surprise():
    predicted = np.array([[0.9, 0.1], [0.9, 0.1], [0.5, 0.5]])
    labels = np.array([[1, 0], [0, 1], [1, 0]])
    found = STRATEGIES["disputed"](ReviewState(predicted, np.zeros((3, 1)), labels, np.ones(3, bool)), 3, 0)
    assert found == [1, 2, 0]
    from ust.util.errors import UserError

    with pytest.raises(UserError, match="no unlabelled clips"):
        select_clips(
            "random",
            list("abc"),
            ReviewState(predicted, predicted, labels, np.ones(3, bool)),
            count=1,
            seed=0,
        )


def test_server_names_a_port_in_use(collection, queue):
    from ust.util.errors import UserError

    first = create_server(create_app(collection, queue, {}, token=TOKEN), 0)
    with pytest.raises(UserError, match="cannot be used"):
        create_server(create_app(collection, queue, {}, token=TOKEN), first.port)
    first.server_close()
