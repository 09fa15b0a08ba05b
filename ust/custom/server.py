"""The web server of ust review, for browsers of this machine that have the token."""

import hmac
import json
import logging
import secrets
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Response, abort, jsonify, request
from werkzeug.serving import make_server

from ust.audio.recordings import SAMPLE_RATE, BadAudio
from ust.datasets.collection import Collection
from ust.reports.media import clip_mp3, clip_png, read_clip
from ust.util.documents import render_template
from ust.util.errors import UserError

HOSTS = ("127.0.0.1", "localhost")
ANSWERS = {"yes": 1, "no": 0, "unsure": -1}
TOKEN = "X-UST-Token"
DEFAULT_PORT = 8737
MAX_REQUEST_BYTES = 2**16
TEMPLATE = Path(__file__).parent / "review.html.jinja"


def create_app(
    collection: Collection,
    queue: Sequence[str],
    predicted: Mapping[str, Mapping[str, float]],
    *,
    token: str,
) -> Flask:
    """Create the Flask application: the page, the audio and spectrograms of the clips, and the answers.

    Every request must name this machine as its host and carry the token, in the header ``X-UST-Token`` or,
    for images and audio, in the URL. Pages of other sites can do neither. An answer is written to the disk
    before it is acknowledged (`Collection.upsert_annotations`).

    Examples
    --------
    >>> app = create_app(collection, ["a.flac"], {}, token="secret")  # doctest: +SKIP
    >>> create_server(app, 0).serve_forever()  # doctest: +SKIP
    """
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_REQUEST_BYTES
    known = set(queue)
    labels = list(collection.taxonomy.labels)

    @app.before_request
    def _check_request() -> None:
        received = request.headers.get(TOKEN) or request.args.get("token", "")
        if not hmac.compare_digest(received.encode(), token.encode()):
            abort(403)
        if urlsplit(f"//{request.host}").hostname not in HOSTS:
            abort(403)
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != request.host:
            abort(403)
        if request.method == "POST" and TOKEN not in request.headers:
            abort(403)  # forms of other sites cannot set headers

    @app.after_request
    def _set_headers(response: Response) -> Response:
        response.headers.setdefault("Content-Security-Policy", "default-src 'none'")
        response.headers["Cache-Control"] = "no-store"
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    @app.get("/")
    def _page() -> Response:
        nonce = secrets.token_urlsafe(16)
        groups = [
            [coarse, *collection.taxonomy.fine_labels(group)]
            for group, coarse in enumerate(collection.taxonomy.coarse)
        ]
        predictions = {clip: predicted.get(clip, {}) for clip in queue}
        annotators = [name for name in collection.annotators() if name]
        data = {
            "groups": groups, "clips": list(queue), "predicted": predictions, "annotators": annotators
        }  # fmt: skip
        name = collection.folder.resolve().name
        page = render_template(TEMPLATE, html=True, name=name, nonce=nonce, token=token, data=data)
        response = Response(page, mimetype="text/html")
        response.headers["Content-Security-Policy"] = (
            f"default-src 'none'; img-src 'self' data:; media-src 'self'; connect-src 'self'; "
            f"script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        return response

    @app.get("/clips/<name>/<kind>")
    def _clip(name: str, kind: str) -> Response:
        if name not in known or kind not in ("sound", "picture"):
            abort(404)
        try:
            samples = read_clip(collection.clip_path(name))
        except BadAudio:
            abort(404)
        if kind == "picture":
            return Response(clip_png(samples, SAMPLE_RATE), mimetype="image/png")
        return Response(clip_mp3(samples, SAMPLE_RATE), mimetype="audio/mpeg")

    @app.get("/answers")
    def _earlier_answers() -> Response:
        return jsonify(_read_answers(collection, request.args.get("annotator", ""), known))

    @app.post("/answers")
    def _save_answer() -> tuple[Response, int]:
        try:
            clip, annotator, answers = _parse_answer(request.get_data(), known, labels)
            with collection.lock():
                collection.upsert_annotations([(clip, annotator, answers)])
        except UserError as error:
            return jsonify({"error": str(error)}), 400
        return jsonify({"saved": clip}), 200

    return app


def _parse_answer(content: bytes, known: set[str], labels: list[str]) -> tuple[str, str, dict[str, int]]:
    """Parse the body of a request into clip, annotator and answers by label."""
    try:
        body = json.loads(content)
        clip, annotator, answers = body["clip"], body["annotator"], dict(body["answers"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError("an answer should have clip, annotator and answers") from None
    if not isinstance(annotator, str) or not annotator.strip():
        raise UserError("the annotator's name is empty; enter a name")
    if clip not in known:
        raise UserError("this clip is not among those to review")
    if unknown := set(answers) - set(labels):
        raise UserError(f"there is no label {min(map(str, unknown))!r}")
    if wrong := [value for value in answers.values() if value not in list(ANSWERS)]:
        raise UserError(f"an answer is {str(wrong[0])!r}, should be yes, no or unsure")
    if not answers:
        raise UserError("no label is answered yet")
    return clip, annotator.strip(), {label: ANSWERS[answers[label]] for label in labels if label in answers}


def _read_answers(collection: Collection, annotator: str, known: set[str]) -> dict[str, dict[str, str]]:
    """Read the answers of an annotator, by clip and label; labels that are not answered are left out."""
    number = collection.annotators().get(annotator)
    if number is None:
        return {}
    table = collection.annotations()
    rows = table[(table["annotator_id"] == number) & table["audio_filename"].isin(known)]
    unsure = collection.unsure(annotator)
    answers = {}
    for row in rows.to_dict("records"):
        clip = str(row["audio_filename"])
        answers[clip] = {
            label: "yes" if row[label] == 1 else "no" if row[label] == 0 else "unsure"
            for label in collection.taxonomy.labels
            if row[label] != -1 or label in unsure.get(clip, ())
        }
    return answers


def create_server(app: Flask, port: int | None = None) -> Any:
    """Create a server of the application on 127.0.0.1."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it would log the token
    for candidate in (port,) if port is not None else (DEFAULT_PORT, 0):
        try:
            # make_server would print about a port in use, and exit.
            with socket.create_server((HOSTS[0], candidate)) as listener:
                return make_server(HOSTS[0], candidate, app, threaded=True, fd=listener.fileno())
        except OSError:
            continue
    if port is None:
        raise UserError("no port of 127.0.0.1 can be used")
    raise UserError(f"port {port} cannot be used; choose another by --port, or 0 for any free one")
