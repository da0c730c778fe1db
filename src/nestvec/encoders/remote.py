"""An encoder behind an OpenAI-compatible endpoint: a hosted model, or a server such as vLLM, TEI or llama.cpp."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from nestvec.encoders.endpoint import Endpoint, EndpointRefusalError
from nestvec.encoders.protocol import Float32Vectors
from nestvec.encoders.unusable import refuse_unusable, shorten
from nestvec.errors import EndpointError
from nestvec.progress import Progress, silent
from nestvec.vectors import unit_float32

__all__ = ["RemoteEncoder"]


class RemoteEncoder:
    """Encodes by `POST <base_url>/embeddings`. What the weights behind it are cannot be seen from here."""

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        batch_size: int = 64,
        query_prompt: str = "",
        document_prompt: str = "",
        timeout_s: float = 120.0,
        retries: int = 8,
    ) -> None:
        """Name an endpoint; nothing is sent yet.

        Args:
            base_url: Up to and with the version, such as `http://localhost:8000/v1`.
            model: Name of the model there.
            api_key: Sent as a bearer token, and never shown; None takes NESTVEC_API_KEY or OPENAI_API_KEY, or none
                where neither is set.
            batch_size: Texts in a request; halved for good where the endpoint refuses so many.
            query_prompt: Put before every query.
            document_prompt: Put before every document.
            timeout_s: Longest wait for an answer, and longest that the endpoint may ask to wait, in seconds.
            retries: How often a request is sent again while the endpoint is busy.
        """
        self.model = model
        self.batch_size = batch_size
        self._prompts = {"query": query_prompt, "document": document_prompt}
        self._endpoint = Endpoint(base_url, api_key=api_key, retries=retries, timeout_s=timeout_s)
        self.base_url = self._endpoint.base_url

    @property
    def texts_at_a_time(self) -> int:
        """Texts whose vectors come, and are to be kept, together: those of a request."""
        return self.batch_size

    @cached_property
    def full_dim(self) -> int:
        """Dimensions of a vector, found by encoding one text."""
        return int(self._request(["dimension"], "").shape[1])

    def identity(self, side: str) -> str:
        """Digest what is known: address, model and prompt. A model that is replaced under its name goes unnoticed."""
        known = json.dumps([self.base_url, self.model, self._prompts[side]])
        return hashlib.blake2b(known.encode(), digest_size=32).hexdigest()

    def encode_queries(self, texts: Sequence[str], *, progress: Progress = silent) -> Float32Vectors:
        """Encode queries.

        Args:
            texts: The queries.
            progress: How to report progress, in texts.

        Returns:
            Unit vectors, [n_texts, full_dim], float32, in the order of `texts`.

        Raises:
            EndpointError: The endpoint cannot be reached, refuses, or answers with something else.
            MissingExtraError: httpx2 is not installed.
        """
        return self._encode(texts, "query", progress)

    def encode_documents(self, texts: Sequence[str], *, progress: Progress = silent) -> Float32Vectors:
        """Encode documents.

        Args:
            texts: The documents.
            progress: How to report progress, in texts.

        Returns:
            Unit vectors, [n_texts, full_dim], float32, in the order of `texts`.

        Raises:
            EndpointError: The endpoint cannot be reached, refuses, or answers with something else.
            MissingExtraError: httpx2 is not installed.
        """
        return self._encode(texts, "document", progress)

    def _encode(self, texts: Sequence[str], side: str, progress: Progress) -> Float32Vectors:
        prompt = self._prompts[side]
        parts: list[Float32Vectors] = []
        first = 0
        with progress(f"encoding {'queries' if side == 'query' else 'documents'}", len(texts)) as advance:
            while first < len(texts):
                batch = texts[first : first + self.batch_size]
                try:
                    parts.append(self._request(batch, prompt))
                except EndpointError as error:
                    if isinstance(error, EndpointRefusalError) and error.may_be_too_much and len(batch) > 1:
                        self.batch_size = len(batch) // 2
                        continue
                    error.vectors = np.concatenate(parts) if parts else None
                    raise
                if parts[-1].shape[1] != parts[0].shape[1]:
                    widths = f"{parts[0].shape[1]} and {parts[-1].shape[1]}"
                    raise EndpointError(
                        f"{self.base_url} answered with vectors of {widths} dimensions. Name one model."
                    )
                first += len(batch)
                advance(len(batch))
        if not parts:
            return np.empty((0, self.full_dim), np.float32)
        return np.concatenate(parts)

    def _request(self, texts: Sequence[str], prompt: str) -> Float32Vectors:
        body = {"model": self.model, "input": [prompt + text for text in texts], "encoding_format": "float"}
        try:
            return self._read(self._endpoint.post("embeddings", body), texts)
        except EndpointRefusalError as refusal:
            if refusal.may_be_too_much and len(texts) == 1:
                found = EndpointRefusalError(f"{refusal} The text is {shorten(texts[0])!r}.", may_be_too_much=True)
                found.text = texts[0]
                raise found from refusal
            raise

    def _read(self, answer: Any, texts: Sequence[str]) -> Float32Vectors:
        try:
            rows = list(answer["data"])
            embeddings = [row["embedding"] for row in rows]
            indices = [row.get("index") for row in rows]
        except (AttributeError, KeyError, TypeError) as error:
            raise EndpointError(
                f"{self.base_url} answered with something else than embeddings: it lacks a list `data` of objects with "
                f"an `embedding` each, as OpenAI has it ({type(error).__name__})."
            ) from error
        vectors = []
        for place, embedding in enumerate(embeddings):
            try:
                vectors.append(_as_vector(embedding))
            except (TypeError, ValueError, OverflowError) as error:
                which = indices[place] if indices[place] in range(len(texts)) else place
                shown = f" {shorten(texts[which])!r}" if len(embeddings) == len(texts) else ""
                raise EndpointError(
                    f"{self.base_url} answered for the text{shown} with {_kind_of(embedding)}, not with a vector."
                ) from error
        if len(vectors) != len(texts):
            raise EndpointError(f"{self.base_url} answered {len(texts)} texts with {len(vectors)} vectors.")
        widths = sorted({len(vector) for vector in vectors})
        if len(widths) != 1 or widths == [0]:
            raise EndpointError(
                f"{self.base_url} answered with vectors of {' and '.join(map(str, widths))} dimensions. Name one model."
            )
        order = self._order(indices)
        found = np.stack([vectors[place] for place in order])
        advice = "Leave it out, or ask whoever runs the endpoint."
        refuse_unusable(found, texts, EndpointError, f"{self.model} at {self.base_url}", advice)
        return unit_float32(found)

    def _order(self, indices: Sequence[Any]) -> list[int]:
        """Where the vector of each text stands; where no row says whose it is, they come in order."""
        if all(index is None for index in indices):
            return list(range(len(indices)))
        numbers = [number for index in indices if (number := _as_number(index)) is not None]
        if sorted(numbers) != list(range(len(indices))):
            shown = ", ".join(map(repr, indices[:10])) + (", ..." if len(indices) > 10 else "")
            raise EndpointError(
                f"{self.base_url} numbered {len(indices)} vectors {shown}, not 0 to {len(indices) - 1}: whose they are "
                "cannot be told."
            )
        places = {number: place for place, number in enumerate(numbers)}
        return [places[number] for number in range(len(indices))]


def _as_number(index: object) -> int | None:
    """A whole number, also written as a text or with a fraction of nothing."""
    if isinstance(index, str) and index.strip().isdecimal():
        return int(index)
    if isinstance(index, float) and index.is_integer():
        return int(index)
    return index if isinstance(index, int) and not isinstance(index, bool) else None


def _kind_of(embedding: object) -> str:
    if embedding is None:
        return "null"
    if isinstance(embedding, str):
        return "a text that is no base64 of float32"
    if isinstance(embedding, list) and any(isinstance(item, list) for item in embedding):
        return "a list of lists, as for one vector a token"
    return "a list of something else than numbers" if isinstance(embedding, list) else f"a {type(embedding).__name__}"


def _as_vector(embedding: Any) -> np.ndarray[Any, Any]:
    """A list of numbers, or the base64 of float32 that some servers give whatever they are asked for."""
    if isinstance(embedding, str):
        try:
            return np.frombuffer(base64.b64decode(embedding, validate=True), dtype="<f4").astype(np.float64)
        except binascii.Error as error:
            raise ValueError("no base64") from error
    if not isinstance(embedding, list):
        raise TypeError("no list")
    if len(embedding) == 1 and isinstance(embedding[0], list):  # as some servers wrap what they pool
        embedding = embedding[0]
    vector = np.asarray(embedding, np.float64)
    if vector.ndim != 1:
        raise ValueError("no vector")
    return vector
