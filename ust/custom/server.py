"""The page on which clips are reviewed: for this machine alone, and for whoever has its token."""

import hmac
import json
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Response, abort, jsonify, request

from ust.audio.recordings import SAMPLE_RATE, BadAudio, load_audio
from ust.custom.report import clip_spectrogram
from ust.datasets.collection import Collection
from ust.reports.media import clip_mp3
from ust.util.documents import render_template
from ust.util.errors import UserError

HOSTS = ("127.0.0.1", "localhost")
ANSWERS = {"yes": 1, "no": 0, "unsure": -1}
TOKEN = "X-UST-Token"
LARGEST = 2**16  # bytes of a request
TEMPLATE = Path(__file__).parent / "review.html.jinja"


def create_app(
    collection: Collection,
    queue: Sequence[str],
    predicted: Mapping[str, Mapping[str, float]],
    *,
    token: str,
) -> Flask:
    """The application: a page, the clips to hear, and a place to send answers to.

    Every request needs the token, in the header ``X-UST-Token`` or, of what a page links to, in the address,
    and a host of this machine: another site's page has neither. An answer is on the disk before it is
    acknowledged (`Collection.say`).

    Parameters
    ----------
    collection : Collection
    queue : sequence of str
        Clips, in the order that they are to be heard in.
    predicted : mapping
        By clip and label, what the tagger thinks of them.
    token : str
    """
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = LARGEST
    known = set(queue)
    labels = list(collection.taxonomy.labels)

    @app.before_request
    def _is_ours() -> None:
        given = request.headers.get(TOKEN) or request.args.get("token", "")
        if not hmac.compare_digest(given.encode(), token.encode()):
            abort(403)
        if urlsplit(f"//{request.host}").hostname not in HOSTS:
            abort(403)
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != request.host:
            abort(403)
        if request.method == "POST" and TOKEN not in request.headers:
            abort(403)  # no form of another page can set a header

    @app.after_request
    def _close(response: Response) -> Response:
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
            [coarse, *(collection.taxonomy.fine[index] for index in collection.taxonomy.members(group))]
            for group, coarse in enumerate(collection.taxonomy.coarse)
        ]
        thought = {clip: predicted.get(clip, {}) for clip in queue}
        data = {"groups": groups, "clips": list(queue), "predicted": thought}
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
            samples = load_audio(collection.clip_path(name), SAMPLE_RATE)
        except BadAudio:
            abort(404)
        if kind == "picture":
            return Response(clip_spectrogram(samples), mimetype="image/png")
        return Response(clip_mp3(samples, SAMPLE_RATE), mimetype="audio/mpeg")

    @app.get("/answers")
    def _said() -> Response:
        """What an annotator said before, by clip."""
        who = request.args.get("annotator", "")
        return jsonify(_of(collection, who, known))

    @app.post("/answers")
    def _say() -> tuple[Response, int]:
        try:
            clip, who, answers = _read_answer(request.get_data(), known, labels)
            with collection.lock():
                collection.upsert_annotations([(clip, who, answers)])
        except UserError as error:
            return jsonify({"error": str(error)}), 400
        return jsonify({"saved": clip}), 200

    return app


def _read_answer(content: bytes, known: set[str], labels: list[str]) -> tuple[str, str, dict[str, int]]:
    """Clip, annotator and answers by label of a request."""
    try:
        body = json.loads(content)
        clip, who, given = body["clip"], body["annotator"], dict(body["answers"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError("an answer should have clip, annotator and answers") from None
    if not isinstance(who, str) or not who.strip():
        raise UserError("say who you are: the annotator's name is empty")
    if clip not in known:
        raise UserError("this clip is not among those to review")
    if unknown := set(given) - set(labels):
        raise UserError(f"there is no label {min(map(str, unknown))!r}")
    if wrong := [value for value in given.values() if value not in list(ANSWERS)]:
        raise UserError(f"an answer is {str(wrong[0])!r}, should be yes, no or unsure")
    return clip, who.strip(), {label: ANSWERS[given.get(label, "no")] for label in labels}


def _of(collection: Collection, annotator: str, known: set[str]) -> dict[str, dict[str, str]]:
    number = collection.annotators().get(annotator)
    if number is None:
        return {}
    words = {value: word for word, value in ANSWERS.items()}
    table = collection.annotations()
    mine = table[(table["annotator_id"] == number) & table["audio_filename"].isin(known)]
    return {
        str(row["audio_filename"]): {label: words[int(row[label])] for label in collection.taxonomy.labels}
        for row in mine.to_dict("records")
    }


def serve(app: Flask, port: int) -> Any:
    """A server of the application on this machine's own address; port 0 for any that is free.

    Raises
    ------
    UserError
        If the port is taken.
    """
    import logging

    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it would log the token
    try:
        return make_server(HOSTS[0], port, app, threaded=True)
    except (OSError, SystemExit):
        raise UserError(f"port {port} cannot be used; name another by --port, or 0 for any") from None
