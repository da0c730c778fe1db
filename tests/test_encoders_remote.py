"""An encoder behind HTTP, with a server that answers as OpenAI's does, or not. Run: pytest tests/test_encoders_remote.py."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from conftest import RunNestvec
from nestvec.encoders import CachedEncoder, RemoteEncoder
from nestvec.encoders.endpoint import _asked_wait
from nestvec.errors import EndpointError
from nestvec.vectors import normalize

pytestmark = pytest.mark.server
DIM = 16
TEXTS = [f"text number {number}" for number in range(23)]
Answer = tuple[int, Any, dict[str, str]]


def vector(text: str) -> list[float]:
    seed = int(hashlib.md5(text.encode()).hexdigest()[:8], 16)
    return np.random.default_rng(seed).normal(size=DIM).astype(np.float32).tolist()


def good(texts: list[str]) -> Answer:
    rows = [{"object": "embedding", "index": place, "embedding": vector(text)} for place, text in enumerate(texts)]
    return 200, {"object": "list", "model": "m", "data": rows}, {}


class Server(ThreadingHTTPServer):
    """Answers as it is told, and keeps what it was asked."""

    behave: Callable[[list[str], int], Answer]
    asked: list[list[str]]
    bodies: list[dict[str, Any]]
    keys: list[str | None]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        self.server.asked.append(body["input"])
        self.server.keys.append(self.headers.get("Authorization"))
        status, found, headers = self.server.behave(body["input"], len(self.server.asked))
        content = (found if isinstance(found, str) else json.dumps(found)).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as one:
        one.asked, one.keys, one.bodies = [], [], []
        one.behave = lambda texts, _: good(texts)
        thread = Thread(target=one.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield one
        one.shutdown()
        thread.join()


def encoder(server: Server, waits: list[float] | None = None, **options: Any) -> RemoteEncoder:
    made = RemoteEncoder(server.url + "/", "m", **options)
    made._endpoint._sleep = (waits if waits is not None else []).append  # how long it waits, without waiting
    return made


def expected(texts: list[str]) -> np.ndarray:
    return normalize(np.array([vector(text) for text in texts], np.float32))


def check(found: np.ndarray, texts: list[str] = TEXTS) -> None:
    np.testing.assert_allclose(found, expected(texts), atol=1e-6)


def test_vectors_come_in_the_order_of_the_texts_with_prompts_and_in_batches(server: Server) -> None:
    remote = encoder(server, batch_size=10, query_prompt="when ")
    check(remote.encode_documents(TEXTS))
    assert [len(texts) for texts in server.asked] == [10, 10, 3]
    check(remote.encode_queries(TEXTS[:2]), [f"when {text}" for text in TEXTS[:2]])
    assert remote.full_dim == DIM
    assert remote.encode_documents([]).shape == (0, DIM)
    assert remote.identity("query") != remote.identity("document")
    assert remote.identity("document") == RemoteEncoder(server.url, "m").identity("query")
    assert server.bodies[0]["encoding_format"] == "float"


def rows_of(change: Callable[[list[dict[str, Any]]], object]) -> Callable[[list[str], int], Answer]:
    def behave(texts: list[str], _: int) -> Answer:
        status, body, headers = good(texts)
        changed = change(body["data"])
        return status, {**body, "data": body["data"] if changed is None else changed}, headers

    return behave


def as_base64(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        row["embedding"] = base64.b64encode(np.array(row["embedding"], "<f4").tobytes()).decode()


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows[::-1],
        lambda rows: [{"embedding": row["embedding"]} for row in rows],
        lambda rows: [{**row, "index": str(row["index"])} for row in rows[::-1]],
        lambda rows: [{**row, "index": None} for row in rows],
        as_base64,
        lambda rows: [{**row, "index": float(row["index"])} for row in rows[::-1]],
        lambda rows: [{**row, "embedding": [row["embedding"]]} for row in rows],
    ],
    ids=["reversed", "no index", "index as text", "index null", "base64", "index as float", "in a list"],
)
def test_answers_that_differ_in_form_are_read(server: Server, change: Any) -> None:
    server.behave = rows_of(change)
    check(encoder(server, batch_size=7).encode_documents(TEXTS))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:-1], "answered 23 texts with 22 vectors"),
        (lambda rows: [{**row, "index": row["index"] // 2} for row in rows], "not 0 to 22: whose they are cannot"),
        (lambda rows: [{**row, "index": row["index"] + 1} for row in rows], "not 0 to 22"),
        (lambda rows: [{**row, "index": "x"} for row in rows], "not 0 to 22"),
        (lambda rows: [{**row, "index": row["index"] or None} for row in rows], "not 0 to 22"),
        (lambda rows: [{**row, "index": row["index"] + 0.5} for row in rows], "not 0 to 22"),
        (lambda rows: rows[7].update(embedding=None), "the text 'text number 7' with null, not with a vector"),
        (lambda rows: rows[7].update(embedding="not base64!"), "'text number 7' with a text that is no base64"),
        (lambda rows: rows[7].update(embedding=[[1.0]] * 2), "'text number 7' with a list of lists, as for one vector"),
        (lambda rows: rows[7].update(embedding=[10**400] * DIM), "'text number 7' with a list of something else"),
        (lambda rows: rows[7].update(embedding={"a": 1}), "'text number 7' with a dict"),
        (
            lambda rows: [{**row, "embedding": row["embedding"][: 3 + row["index"] % 2]} for row in rows],
            "3 and 4 dimensions",
        ),
        (lambda rows: [{**row, "embedding": []} for row in rows], "vectors of 0 dimensions"),
        (lambda rows: 7, "something else than embeddings"),
        (lambda rows: rows[5].update(embedding=[0.0] * DIM), "zeros for the text 'text number 5'"),
        (lambda rows: rows[9].update(embedding=[1e999] * DIM), "not finite for the text 'text number 9'"),
        (lambda rows: rows[9].update(embedding=[float("nan")] * DIM), "not finite for the text 'text number 9'"),
    ],
)
def test_answers_that_cannot_be_right_are_refused_and_never_kept(
    server: Server, tmp_path: Path, change: Any, message: str
) -> None:
    server.behave = rows_of(change)
    with pytest.raises(EndpointError, match=message) as caught:
        encoder(server).encode_documents(TEXTS)
    assert "==" not in str(caught.value)
    server.behave = lambda texts, _: good(texts)
    cached = CachedEncoder(encoder(server), folder=tmp_path)
    assert cached.full_dim == DIM
    server.behave = rows_of(change)
    with pytest.raises(EndpointError):
        cached.encode_documents(TEXTS)
    server.behave = lambda texts, _: good(texts)
    check(cached.encode_documents(TEXTS))


def test_a_batch_is_halved_for_good_where_the_endpoint_takes_no_more(server: Server) -> None:
    def at_most_5(texts: list[str], _: int) -> Answer:
        return (400, {"error": {"message": "5 inputs at most"}}, {}) if len(texts) > 5 else good(texts)

    server.behave = at_most_5
    remote = encoder(server, batch_size=20)
    check(remote.encode_documents(TEXTS))
    assert remote.batch_size == 5
    server.asked.clear()
    check(remote.encode_documents(TEXTS[:10]), TEXTS[:10])
    assert [len(texts) for texts in server.asked] == [5, 5]


@pytest.mark.parametrize("status", [400, 413, 422])
def test_one_text_that_is_refused_is_named(server: Server, status: int) -> None:
    def no_seven(texts: list[str], _: int) -> Answer:
        return (status, {"detail": [{"msg": "too long"}]}, {}) if TEXTS[7] in texts else good(texts)

    server.behave = no_seven
    with pytest.raises(EndpointError, match=rf"status {status}. It says: too long. The text is 'text number 7'"):
        encoder(server).encode_documents(TEXTS)


@pytest.mark.parametrize(
    ("headers", "waits"),
    [
        ({"Retry-After": "3"}, [3.0, 3.0]),
        ({"retry-after-ms": "1500", "Retry-After": "9"}, [1.5, 1.5]),
        ({}, None),
        ({"Retry-After": "soon"}, None),
    ],
)
@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 529])
def test_a_busy_endpoint_is_asked_again_as_it_says(
    server: Server, status: int, headers: dict[str, str], waits: list[float] | None
) -> None:
    server.behave = lambda texts, n: good(texts) if n % 3 == 0 else (status, {"error": {"message": "busy"}}, headers)
    waited: list[float] = []
    check(encoder(server, waited).encode_documents(TEXTS))
    if waits is None:
        assert len(waited) == 2
        assert 0 < waited[0] <= 0.5 < waited[1] <= 1.0
    else:
        assert waited == waits


def test_a_date_says_how_long_to_wait() -> None:
    assert _asked_wait({"retry-after": formatdate(time.time() + 30, usegmt=True)}) == pytest.approx(30, abs=2)
    assert _asked_wait({"retry-after": formatdate(time.time() - 30, usegmt=True)}) == 0


def test_waiting_has_the_limits_that_the_user_sets(server: Server) -> None:
    server.behave = lambda texts, _: (429, {"error": {"message": "slow down"}}, {"Retry-After": "50"})
    with pytest.raises(
        EndpointError, match=r"status 429 \(4 times; --endpoint-retries allows more\). It says: slow down"
    ):
        encoder(server, retries=3).encode_documents(TEXTS)
    assert len(server.asked) == 4
    with pytest.raises(EndpointError, match=r"asks to wait 50 s, longer than the 49 s .*--endpoint-timeout.*slow down"):
        encoder(server, timeout_s=49).encode_documents(TEXTS)


@pytest.mark.parametrize("status", [200, 400, 413, 422, 500])
def test_what_is_too_much_is_halved_whatever_the_status(server: Server, status: int) -> None:
    refusal = {"error": {"message": "too many inputs: 5 at most"}}
    server.behave = lambda texts, _: (status, refusal, {}) if len(texts) > 5 else good(texts)
    waits: list[float] = []
    check(encoder(server, waits).encode_documents(TEXTS))
    assert waits == []


def test_a_first_request_that_is_dropped_or_late_is_sent_again(server: Server) -> None:
    def drop_first(texts: list[str], count: int) -> Answer:
        if count == 1:
            raise ConnectionResetError
        if count == 2:
            time.sleep(0.6)
        return good(texts)

    server.behave = drop_first
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    waits: list[float] = []
    check(encoder(server, waits, timeout_s=0.3).encode_documents(TEXTS))
    assert len(waits) == 2


def test_a_key_that_no_header_holds_and_a_password_are_not_shown(server: Server) -> None:
    for key in ("sk-abc\nsk-second", "sk-abc\x00", "sk-\u00e4bc"):
        with pytest.raises(EndpointError, match="The key holds a line end, or characters that no key has") as caught:
            encoder(server, api_key=key).encode_documents(TEXTS)
        assert "sk-" not in str(caught.value)
    server.behave = lambda texts, _: (403, {"error": "no"}, {})
    address = server.url.replace("http://", "http://me:hunter2@")
    remote = RemoteEncoder(address, "m")
    with pytest.raises(EndpointError, match="status 403") as caught:
        remote.encode_documents(TEXTS)
    assert server.keys[-1].startswith("Basic ")
    assert "hunter2" not in str(caught.value) + repr(remote._endpoint) + remote.base_url


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ({"error": {"message": "pay", "code": "insufficient_quota"}}, {}),
        ({"error": "pay"}, {"x-should-retry": "false"}),
    ],
)
def test_what_waiting_does_not_mend_is_not_asked_again(server: Server, body: Any, headers: dict[str, str]) -> None:
    server.behave = lambda texts, _: (429, body, headers)
    with pytest.raises(EndpointError, match="It says: pay"):
        encoder(server).encode_documents(TEXTS)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, {"error": {"message": "the account is empty", "code": 402}}, "the account is empty."),
        (401, {"error": {"message": "wrong key: sk-secret-123"}}, r"wrong key: \(the key\)."),
        (404, {"object": "error", "message": "no model m"}, "no model m."),
        (403, "<html><body>Forbidden by proxy</body></html>", "something else than JSON: Forbidden by proxy."),
        (200, "<html>", r"something else than JSON: \(nothing\)."),
        (401, {"detail": "A" * 500}, r"\(500 characters\)."),
        (401, {"detail": "\n".join(["Ab+/" * 19] * 9)}, r"\(692 characters\)."),
    ],
)
def test_what_the_server_says_is_shown_without_key_and_vectors(
    server: Server, status: int, body: Any, said: str
) -> None:
    server.behave = lambda texts, _: (status, body, {})
    remote = encoder(server, api_key="sk-secret-123")
    with pytest.raises(EndpointError, match=f"status {status}. It says: {said}") as caught:
        remote.encode_documents(TEXTS)
    assert "sk-secret-123" not in str(caught.value) + repr(remote) + repr(vars(remote).get("_endpoint"))
    assert server.keys == ["Bearer sk-secret-123"]


def test_keys_come_from_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NESTVEC_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    encoder(server).encode_documents(TEXTS[:1])
    monkeypatch.setenv("OPENAI_API_KEY", "of-openai")
    encoder(server).encode_documents(TEXTS[:1])
    monkeypatch.setenv("NESTVEC_API_KEY", "of-nestvec\n")
    encoder(server).encode_documents(TEXTS[:1])
    assert server.keys == [None, "Bearer of-openai", "Bearer of-nestvec"]


def test_what_was_encoded_before_an_endpoint_gave_up_is_kept_and_a_second_run_goes_on(
    server: Server, tmp_path: Path
) -> None:
    server.behave = lambda texts, n: good(texts) if n <= 3 else (500, {"error": {"message": "down"}}, {})
    cached = CachedEncoder(encoder(server, batch_size=5, retries=0), folder=tmp_path)
    with pytest.raises(
        EndpointError, match="down. 10 of 23 texts are encoded and kept; a second run goes on from there"
    ):
        cached.encode_documents(TEXTS)
    server.behave = lambda texts, _: good(texts)
    server.asked.clear()
    check(CachedEncoder(encoder(server, batch_size=5), folder=tmp_path).encode_documents(TEXTS))
    assert sum(map(len, server.asked)) == 13


def test_what_was_encoded_while_a_batch_shrank_is_kept(server: Server, tmp_path: Path) -> None:
    def behave(texts: list[str], _: int) -> Answer:
        if sum(len(asked) for asked in server.asked[:-1] if len(asked) <= 3) >= 9:
            return 500, {"error": {"message": "down"}}, {}
        return good(texts) if len(texts) <= 3 else (413, {"error": {"message": "too many inputs"}}, {})

    server.behave = behave
    cached = CachedEncoder(encoder(server, batch_size=20, retries=0), folder=tmp_path)
    with pytest.raises(EndpointError, match="down. 8 of 23 texts are encoded and kept; a second run goes on"):
        cached.encode_documents(TEXTS)
    assert [len(asked) for asked in server.asked] == [1, 20, 10, 5, 2, 2, 2, 2, 2]  # the first tells the dimensions
    server.behave = lambda texts, _: good(texts)
    check(CachedEncoder(encoder(server), folder=tmp_path).encode_documents(TEXTS))
    assert len(server.asked[-1]) == 15


@pytest.mark.parametrize(
    "body",
    [
        {"object": "error", "message": "the model is loading", "code": 50001},
        {"message": "the model is loading"},
        {"detail": "the model is loading"},
    ],
)
def test_what_a_server_says_with_status_200_is_shown(server: Server, body: Any) -> None:
    server.behave = lambda *_: (200, body, {})
    with pytest.raises(EndpointError, match="refused with status 200. It says: the model is loading"):
        encoder(server).encode_documents(TEXTS[:1])


def test_an_error_about_a_text_is_about_the_text_without_its_prompt(server: Server) -> None:
    server.behave = lambda texts, _: (400, {"error": {"message": "no"}}, {})
    with pytest.raises(EndpointError, match="The text is 'text number 0'") as refused:
        encoder(server, document_prompt="passage: ").encode_documents(TEXTS[:2])
    assert refused.value.text == TEXTS[0]
    server.behave = lambda texts, _: (200, {"data": [{"embedding": [0.0] * DIM} for _ in texts]}, {})
    with pytest.raises(EndpointError, match="zeros for the text 'text number 0'") as empty:
        encoder(server, document_prompt="passage: ").encode_documents(TEXTS[:2])
    assert empty.value.text == TEXTS[0]


def test_an_address_where_nothing_answers_is_said_at_once() -> None:
    waits: list[float] = []
    remote = RemoteEncoder("http://127.0.0.1:9/v1", "m")
    remote._endpoint._sleep = waits.append
    with pytest.raises(EndpointError, match=r"Cannot reach http://127.0.0.1:9/v1: .* Check the address"):
        remote.encode_documents(TEXTS)
    assert not waits
    for url in ("localhost:8000/v1", "http://[::1/v1", "ftp://x/v1"):
        with pytest.raises(EndpointError, match="Cannot"):
            RemoteEncoder(url, "m").encode_documents(TEXTS)


def test_the_command_takes_keys_from_a_file_and_names_text_row_and_file(
    server: Server, nestvec: RunNestvec, tmp_path: Path
) -> None:
    rows = [{"query": f"question {n}", "positive": f"answer {n}"} for n in range(40)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "key.txt").write_text("sk-from-file\n", encoding="utf-8")

    def zero_17(texts: list[str], _: int) -> Answer:
        status, body, headers = good(texts)
        for text, row in zip(texts, body["data"], strict=True):
            if text == "answer 17":
                row["embedding"] = [0.0] * DIM
        return status, body, headers

    server.behave = zero_17
    words = ["adapt", "--model", "m", "--endpoint", server.url, "--data", tmp_path / "rows.jsonl", "--dims", "16,8"]
    words += [
        "--endpoint-key-file",
        tmp_path / "key.txt",
        "--endpoint-batch",
        "16",
        "--out",
        tmp_path / "a.safetensors",
    ]
    done = nestvec(*words)
    assert done.returncode == 2
    assert "zeros for the text 'answer 17'" in done.stderr
    assert f"{tmp_path / 'rows.jsonl'}, line 18" in done.stderr
    assert "sk-from-file" not in done.stderr + done.stdout
    assert set(server.keys) == {"Bearer sk-from-file"}
    server.behave = lambda texts, _: good(texts)
    assert nestvec(*words).returncode == 0
    wrong = nestvec("adapt", "--model", "m", "--data", "x", "--out", "y", "--endpoint-retries", "3")
    assert "--endpoint-retries goes with --endpoint" in wrong.stderr
