"""A local server instead of Zenodo, with tiny records in the layouts of SONYC-UST v1."""

import hashlib
import io
import json
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pandas as pd

# Archive and folder of each split, by version of the record.
LAYOUTS = {
    "0.1": {"train": ("audio.tar.gz", "train"), "validate": ("audio.tar.gz", "validate")},
    "0.2": {
        "train": ("audio-dev.tar.gz", "audio-dev/train"),
        "validate": ("audio-dev.tar.gz", "audio-dev/validate"),
        "test": ("audio-eval.tar.gz", "audio-eval"),
    },
}
LAYOUTS["1.0"] = LAYOUTS["0.2"]
RECORDS = {"0.1": 2590742, "0.2": 3233082, "1.0": 3338310}
IMPACT, MACHINERY = "3-1_non-machinery-impact_presence", "2_machinery-impact_presence"


def md5(content):
    return hashlib.md5(content).hexdigest()


class Server:
    """A local HTTP server. `answers[path]` lists (fault, content) of each request; the last repeats."""

    def __init__(self):
        self.answers, self.requests = {}, []
        server = self
        self.ended = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                path = self.path.split("?")[0]
                server.requests.append(path)
                answers = server.answers.get(path)
                if not answers:
                    self.send_error(404)
                    return
                fault, content = answers.pop(0) if len(answers) > 1 else answers[0]
                if isinstance(fault, int):
                    self.send_error(fault)
                    return
                if fault == "redirect":
                    self.send_response(302)
                    self.send_header("Location", content)
                    self.end_headers()
                    return
                self.send_response(200)
                length = len(content) // 3 if fault == "short" else len(content)
                self.send_header("Content-Length", str(length))
                self.end_headers()
                if fault == "truncate":
                    self.wfile.write(content[: len(content) // 2])
                    self.close_connection = True
                elif fault == "stall":
                    self.wfile.write(content[: len(content) // 2])
                    self.wfile.flush()
                    server.ended.wait()
                else:
                    self.wfile.write(content)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}"


def tables_of(city, *, tests):
    """Return a city's annotations as each release has them, with some validate clips moved to test."""
    table = pd.read_csv(city / "annotations.csv", dtype=str, keep_default_na=False)
    clips = sorted(set(table.loc[table["split"] == "validate", "audio_filename"]))
    table.loc[table["audio_filename"].isin(clips[:tests]), "split"] = "test"
    wrong = table.copy()
    wrong.loc[table[IMPACT] == "1", MACHINERY] = "1"
    annotated = table["split"] != "test"
    return {"0.1": wrong[annotated], "0.2": wrong[annotated], "1.0": table}


def serve_records(server, city, *, tests=2):
    """Serve the three records with a city's clips.

    Returns
    -------
    dict of str to dict
        By version the content of each of the record's files.
    """
    whole = tables_of(city, tests=tests)["1.0"]
    split_of = whole.groupby("audio_filename")["split"].first()
    records = {}
    for version, table in tables_of(city, tests=tests).items():
        layout, archives = LAYOUTS[version], {}
        for path in sorted((city / "audio").rglob("*.wav")):
            if split_of[path.name] in layout:
                archive, folder = layout[split_of[path.name]]
                archives.setdefault(archive, []).append((path, f"{folder}/{path.name}"))
        name = "annotations-dev.csv" if version == "0.2" else "annotations.csv"
        files = {name: table.to_csv(index=False).encode()}
        files["dcase-ust-taxonomy.yaml"] = (city / "dcase-ust-taxonomy.yaml").read_bytes()
        for archive, members in archives.items():
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
                for path, member in members:
                    tar.add(path, member)
            files[archive] = buffer.getvalue()
        record = RECORDS[version]
        for file, content in files.items():
            server.answers[f"/records/{record}/files/{file}"] = [(None, content)]
        listed = [{"key": file, "checksum": f"md5:{md5(content)}"} for file, content in files.items()]
        server.answers[f"/api/records/{record}"] = [(None, json.dumps({"files": listed}).encode())]
        records[version] = files
    return records
