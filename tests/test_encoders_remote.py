"""An encoder behind HTTP, with a server that answers as OpenAI's does. Run: pytest tests/test_encoders_remote.py."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from nestvec.encoders import RemoteEncoder, SentenceTransformerEncoder, load_model
from nestvec.errors import EndpointError

TEXTS = ["what does the river do", "silver", "the engine powers paper every day"]


class Server(ThreadingHTTPServer):
    """Serves a model; counts requests, and can be told to misbehave."""

    encoder: SentenceTransformerEncoder
    misbehave: str = ""
    requests: list[dict[str, Any]]
    keys: list[str | None]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(body)
        self.server.keys.append(self.headers.get("Authorization"))
        kind = self.server.misbehave
        if self.path != "/v1/embeddings" or body["model"] != "tiny":
            return self.answer(404, {"error": {"message": f"no model {body['model']}"}})
        if kind == "busy" and len(self.server.requests) < 3:
            return self.answer(503, {"error": {"message": "busy"}})
        vectors = self.server.encoder.encode_documents(body["input"])
        if kind == "short":
            vectors = vectors[:-1]
        if kind == "nan":
            vectors = vectors * np.nan
        if kind == "html":
            return self.answer(200, "<html>", content_type="text/html")
        as_text = body.get("encoding_format") == "base64"
        data = [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode(row.tobytes()).decode() if as_text else [float(x) for x in row],
            }
            for index, row in enumerate(vectors)
        ]
        return self.answer(200, {"object": "list", "model": "tiny", "data": data[::-1], "usage": {}})

    def answer(self, status: int, body: object, content_type: str = "application/json") -> None:
        content = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tiny_model: Path) -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as one:
        one.encoder = SentenceTransformerEncoder(load_model(str(tiny_model)))
        one.requests, one.keys = [], []
        thread = Thread(target=one.serve_forever)
        thread.start()
        yield one
        one.shutdown()
        thread.join()


def address(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/v1/"


def test_vectors_are_those_of_the_model_in_the_order_of_the_texts(server: Server) -> None:
    remote = RemoteEncoder(address(server), "tiny", batch_size=2, query_prompt="when ")
    np.testing.assert_allclose(remote.encode_documents(TEXTS), server.encoder.encode_documents(TEXTS), atol=1e-5)
    assert [len(request["input"]) for request in server.requests] == [2, 1]
    prompted = server.encoder.encode_documents([f"when {text}" for text in TEXTS])
    np.testing.assert_allclose(remote.encode_queries(TEXTS), prompted, atol=1e-5)
    assert remote.full_dim == 128
    assert remote.encode_documents([]).shape == (0, 128)
    assert remote.identity("query") != remote.identity("document")
    assert remote.identity("document") == RemoteEncoder(address(server).rstrip("/"), "tiny").identity("query")


def test_the_key_is_sent_and_a_busy_server_is_asked_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    RemoteEncoder(address(server), "tiny").encode_documents(TEXTS)
    server.misbehave = "busy"
    server.requests.clear()
    RemoteEncoder(address(server), "tiny", api_key="secret").encode_documents(TEXTS)
    assert len(server.requests) == 3
    assert server.keys[-1] == "Bearer secret"


@pytest.mark.parametrize(("kind", "message"), [("short", "3 texts with"), ("nan", "not finite"), ("html", "something")])
def test_wrong_answers_are_refused(server: Server, kind: str, message: str) -> None:
    server.misbehave = kind
    with pytest.raises(EndpointError, match=message):
        RemoteEncoder(address(server), "tiny").encode_documents(TEXTS)


def test_a_missing_model_or_server_is_said(server: Server) -> None:
    with pytest.raises(EndpointError, match="status 404: .*no model huge"):
        RemoteEncoder(address(server), "huge").encode_documents(TEXTS)
    with pytest.raises(EndpointError, match="Cannot reach http://127.0.0.1:9/v1"):
        RemoteEncoder("http://127.0.0.1:9/v1", "tiny").encode_documents(TEXTS)
