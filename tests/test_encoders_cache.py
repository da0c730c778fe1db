"""The cache of vectors: what it keys, survives and repairs. Run: pytest tests/test_encoders_cache.py (ten seconds)."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nestvec.encoders import CachedEncoder, SentenceTransformerEncoder, cache_entries, clear_cache, load_model
from nestvec.encoders.vector_store import VectorStore, text_key
from nestvec.errors import ModelError, StorageError


class CountingEncoder:
    """Vectors that follow from the text alone; remembers what it was asked."""

    full_dim = 6

    def __init__(self, name: str = "a") -> None:
        self.name = name
        self.asked: list[str] = []

    def identity(self, side: str) -> str:
        return f"{self.name}-{side}"

    def _encode(self, texts: Sequence[str], **_: object) -> np.ndarray:
        self.asked += texts
        return np.stack([vector_of(text) for text in texts])

    encode_queries = encode_documents = _encode


def vector_of(text: str) -> np.ndarray:
    vector = np.random.default_rng(list(text.encode())).normal(size=6)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


TEXTS = [f"text {'x' * (7 * i % 40)} {i}" for i in range(700)]
EXPECTED = np.stack([vector_of(text) for text in TEXTS])


def test_no_text_is_encoded_twice(tmp_path: Path) -> None:
    encoder = CountingEncoder()
    cached = CachedEncoder(encoder, folder=tmp_path)
    np.testing.assert_array_equal(cached.encode_documents(TEXTS[:10] + TEXTS[:3]), np.r_[EXPECTED[:10], EXPECTED[:3]])
    assert sorted(encoder.asked) == sorted(TEXTS[:10])
    later = CachedEncoder(encoder, folder=tmp_path)
    np.testing.assert_array_equal(later.encode_documents(TEXTS[::-1]), EXPECTED[::-1])
    assert sorted(encoder.asked) == sorted(TEXTS)
    np.testing.assert_array_equal(later.encode_documents(TEXTS), EXPECTED)
    assert len(encoder.asked) == len(TEXTS)
    assert later.encode_documents([]).shape == (0, 6)


def test_vectors_of_another_encoder_or_side_are_not_mixed_up(tmp_path: Path) -> None:
    first, second = CountingEncoder("a"), CountingEncoder("b")
    CachedEncoder(first, folder=tmp_path).encode_documents(TEXTS[:5])
    CachedEncoder(first, folder=tmp_path).encode_queries(TEXTS[:5])
    CachedEncoder(second, folder=tmp_path).encode_documents(TEXTS[:5])
    assert (len(first.asked), len(second.asked)) == (10, 5)


def test_a_model_is_another_after_anything_that_changes_its_vectors(tiny_model: Path) -> None:
    import torch

    def fresh() -> SentenceTransformerEncoder:
        return SentenceTransformerEncoder(load_model(str(tiny_model)))

    plain = fresh().identity("document")
    assert plain == fresh().identity("document") == fresh().identity("query")
    used = fresh()
    used.encode_documents(["river", "a much longer text about stone and water"])
    assert used.identity("document") == plain  # what encoding leaves behind in the tokenizer does not count

    prompted = fresh()
    prompted.model.prompts["query"] = "what "
    assert prompted.identity("query") != plain == prompted.identity("document")
    shortened = fresh()
    shortened.model.max_seq_length = 7
    pooled = fresh()
    pooled.model[1].pooling_mode = "cls"
    trained = fresh()
    with torch.no_grad():
        next(trained.model.parameters()).view(-1)[0] += 1e-3
    halved = SentenceTransformerEncoder(fresh().model.bfloat16())
    cut = SentenceTransformerEncoder(load_model(str(tiny_model), truncate_dim=16))
    others = [one.identity("document") for one in (shortened, pooled, trained, halved, cut)]
    assert len({plain, *others}) == 6


def test_a_copy_of_a_model_in_another_folder_is_the_same_model(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "copy")
    here, there = (SentenceTransformerEncoder(load_model(str(folder))) for folder in (tiny_model, tmp_path / "copy"))
    assert here.identity("document") == there.identity("document")


def test_towers_of_a_router_have_an_identity_each(tiny_model: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Router

    towers = [list(load_model(str(tiny_model)).children()) for _ in range(2)]
    encoder = SentenceTransformerEncoder(
        SentenceTransformer(modules=[Router.for_query_document(query_modules=towers[0], document_modules=towers[1])])
    )
    assert encoder.identity("query") != encoder.identity("document")
    seen = {encoder.identity("query")}
    for limit in (4, 8):
        towers[0][0].max_seq_length = limit
        seen.add(encoder.identity("query"))
    towers[1][0].tokenizer.truncation_side = "left"
    seen.add(encoder.identity("query"))
    assert len(seen) == 4


def test_a_real_model_gives_the_same_vectors_from_the_cache(tiny_model: Path, tmp_path: Path) -> None:
    encoder = SentenceTransformerEncoder(load_model(str(tiny_model)))
    texts = ["the river crosses the stone", "the engine powers the light"] * 3 + ["bridge"]
    first = CachedEncoder(encoder, folder=tmp_path).encode_documents(texts)
    np.testing.assert_allclose(first, encoder.encode_documents(texts), atol=1e-6)
    np.testing.assert_array_equal(CachedEncoder(encoder, folder=tmp_path).encode_queries(texts), first)
    assert [entry.vectors for entry in cache_entries(tmp_path)] == [3]


def filled(tmp_path: Path) -> Path:
    CachedEncoder(CountingEncoder(), folder=tmp_path).encode_documents(TEXTS)
    return tmp_path / "a-document"


def test_damaged_vectors_are_encoded_again_and_stay_repaired(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = filled(tmp_path)
    content = bytearray((store / "vectors.f32").read_bytes())
    for row in (5, 600):
        content[24 * row + 3] ^= 0x40
    (store / "vectors.f32").write_bytes(content)
    encoder = CountingEncoder()
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(CachedEncoder(encoder, folder=tmp_path).encode_documents(TEXTS), EXPECTED)
    assert len(encoder.asked) == 2
    assert "2 vectors" in caplog.text
    assert "damaged" in caplog.text
    again = CountingEncoder()
    np.testing.assert_array_equal(CachedEncoder(again, folder=tmp_path).encode_documents(TEXTS), EXPECTED)
    assert again.asked == []


@pytest.mark.parametrize("name", ["vectors.f32", "keys.bin"])
@pytest.mark.parametrize("cut", [1, 10, 300])
def test_a_file_cut_short_costs_only_what_was_cut(tmp_path: Path, name: str, cut: int) -> None:
    store = filled(tmp_path)
    content = (store / name).read_bytes()
    (store / name).write_bytes(content[:-cut])
    for expected in (range(1, 40), [0]):
        encoder = CountingEncoder()
        np.testing.assert_array_equal(CachedEncoder(encoder, folder=tmp_path).encode_documents(TEXTS), EXPECTED)
        assert len(encoder.asked) in expected


def test_two_texts_whose_digests_begin_alike_are_told_apart(tmp_path: Path) -> None:
    store = VectorStore(tmp_path / "s", 2)
    keys = [b"same-one" + b"%08d" % i for i in range(4)]
    store.append(keys[:3], np.arange(6, dtype=np.float32).reshape(3, 2))
    found = store.find(keys[::-1])
    assert found.there.tolist() == [False, True, True, True]
    np.testing.assert_array_equal(found.vectors[1:], [[4, 5], [2, 3], [0, 1]])


def test_writers_and_readers_may_come_at_the_same_time(tmp_path: Path) -> None:
    errors: list[BaseException] = []

    def work(offset: int) -> None:
        try:
            for _ in range(3):
                texts = TEXTS[offset:] + TEXTS[:offset]
                got = CachedEncoder(CountingEncoder(), folder=tmp_path).encode_documents(texts)
                np.testing.assert_array_equal(got, np.r_[EXPECTED[offset:], EXPECTED[:offset]])
        except BaseException as error:  # noqa: BLE001  # asserted below, in the thread that pytest sees
            errors.append(error)

    threads = [threading.Thread(target=work, args=(offset,)) for offset in (0, 200, 400)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


KILLED = """
import os, sys, numpy as np
sys.path.insert(0, {tests!r})
from test_encoders_cache import CountingEncoder, TEXTS
from nestvec.encoders import CachedEncoder, vector_store

class Slow(CountingEncoder):
    def _encode(self, texts, **_):
        print("batch", flush=True)
        return super()._encode(texts)
    encode_queries = encode_documents = _encode

CachedEncoder(Slow(), folder={folder!r}).encode_documents(TEXTS)
print("done", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("batches", [2, 3])
def test_a_killed_run_leaves_whole_batches(tmp_path: Path, batches: int) -> None:
    script = KILLED.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
    for _ in range(batches):
        process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    process.stdin.close()
    encoder = CountingEncoder()
    np.testing.assert_array_equal(CachedEncoder(encoder, folder=tmp_path).encode_documents(TEXTS), EXPECTED)
    assert len(encoder.asked) <= len(TEXTS) - 256 * (batches - 1)


def test_a_cache_that_cannot_be_written_can_still_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "not yours")

    monkeypatch.setattr(os, "utime", refuse)
    monkeypatch.setattr(os, "open", refuse)
    encoder = CountingEncoder()
    np.testing.assert_array_equal(CachedEncoder(encoder, folder=tmp_path).encode_documents(TEXTS), EXPECTED)
    assert encoder.asked == []
    with pytest.raises(StorageError):
        CachedEncoder(encoder, folder=tmp_path).encode_documents(["new"])


def test_a_folder_that_goes_while_it_is_made_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, make, gone = CachedEncoder(CountingEncoder(), folder=tmp_path), Path.mkdir, []

    def mkdir(self: Path, *args: Any, **options: Any) -> None:
        if not gone:
            gone.append(self)
            raise FileExistsError(17, "File exists", str(self))  # as when it goes between making and looking
        make(self, *args, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    assert len(encoder.encode_documents(TEXTS[:3])) == 3
    assert gone
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a-document").write_text("")
    with pytest.raises(StorageError, match="A file stands where a folder is needed"):
        CachedEncoder(CountingEncoder(), folder=tmp_path / "other").encode_documents(TEXTS[:3])


def test_clearing_while_others_append_loses_no_later_vector(tmp_path: Path) -> None:
    stop = threading.Event()

    def clear() -> None:
        while not stop.is_set():
            clear_cache(cache_entries(tmp_path), tmp_path)

    thread = threading.Thread(target=clear)
    thread.start()
    try:
        for start in range(0, 600, 100):
            texts = TEXTS[start : start + 100]
            got = CachedEncoder(CountingEncoder(), folder=tmp_path).encode_documents(texts)
            np.testing.assert_array_equal(got, EXPECTED[start : start + 100])
    finally:
        stop.set()
        thread.join()
    encoder = CountingEncoder()
    np.testing.assert_array_equal(CachedEncoder(encoder, folder=tmp_path).encode_documents(TEXTS), EXPECTED)
    np.testing.assert_array_equal(CachedEncoder(CountingEncoder(), folder=tmp_path).encode_documents(TEXTS), EXPECTED)


def test_the_cache_tells_what_it_holds_and_can_be_cleared(tmp_path: Path) -> None:
    assert cache_entries(tmp_path / "missing") == []
    CachedEncoder(CountingEncoder("a"), folder=tmp_path, about="model a").encode_documents(TEXTS[:9])
    CachedEncoder(CountingEncoder("b"), folder=tmp_path, about="model b").encode_documents(TEXTS[:4])
    (tmp_path / "something-else").mkdir()
    entries = {entry.about: entry for entry in cache_entries(tmp_path)}
    assert {about: (entry.vectors, entry.dim) for about, entry in entries.items()} == {
        "model a": (9, 6),
        "model b": (4, 6),
    }
    assert entries["model a"].size_bytes >= 9 * (24 + 20)
    clear_cache([entries["model a"]], tmp_path)
    assert [entry.about for entry in cache_entries(tmp_path)] == ["model b"]
    assert (tmp_path / "something-else").is_dir()


def test_a_store_of_another_size_or_format_is_refused(tmp_path: Path) -> None:
    store = filled(tmp_path)
    with pytest.raises(ModelError, match="vectors of 6 dimensions in format 1, not 7"):
        VectorStore(store, 7)
    (store / "store.json").write_text('{"format": 2, "dim": 6, "about": ""}')
    with pytest.raises(ModelError, match="in format 2"):
        VectorStore(store, 6)
    assert [entry.vectors for entry in cache_entries(tmp_path)] == [700]
    (store / "store.json").write_text("damaged")
    entries = cache_entries(tmp_path)
    assert [(entry.about, entry.vectors) for entry in entries] == [("(damaged)", 700)]
    clear_cache(entries, tmp_path)
    assert cache_entries(tmp_path) == []


def test_a_disk_that_fills_up_is_one_clear_error_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = VectorStore(tmp_path / "s", 6)
    store.append([text_key(text) for text in TEXTS[:5]], EXPECTED[:5])
    real = os.pwrite

    def full(descriptor: int, content: bytes, offset: int) -> int:
        if offset > 150:
            raise OSError(28, "No space left on device")
        return real(descriptor, content[:40], offset)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StorageError, match="disk is full"):
        store.append([text_key(text) for text in TEXTS[5:20]], EXPECTED[5:20])
    monkeypatch.undo()
    found = store.find([text_key(text) for text in TEXTS[:20]])
    assert found.there.sum() == 5
    np.testing.assert_array_equal(found.vectors[:5], EXPECTED[:5])
    store.append([text_key(text) for text in TEXTS[5:20]], EXPECTED[5:20])
    np.testing.assert_array_equal(store.find([text_key(text) for text in TEXTS[:20]]).vectors, EXPECTED[:20])
