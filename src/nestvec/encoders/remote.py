"""An encoder behind an OpenAI-compatible endpoint: a hosted model, or a server such as vLLM, TEI or llama.cpp."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from nestvec.encoders.protocol import Float32Vectors
from nestvec.errors import EndpointError
from nestvec.extras import require
from nestvec.progress import Progress, silent
from nestvec.vectors import normalize

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
        timeout_s: float = 60.0,
    ) -> None:
        """Name an endpoint; nothing is sent yet.

        Args:
            base_url: Up to and with the version, such as `http://localhost:8000/v1`.
            model: Name of the model there.
            api_key: Sent as a bearer token; None takes OPENAI_API_KEY, or none where that is not set.
            batch_size: Texts in a request.
            query_prompt: Put before every query.
            document_prompt: Put before every document.
            timeout_s: Longest wait for an answer, in seconds; failed requests are sent again a few times.
        """
        self.base_url = base_url.rstrip("/")
        self.model = model
        self.batch_size = batch_size
        self._prompts = {"query": query_prompt, "document": document_prompt}
        self._api_key = api_key
        self._timeout_s = timeout_s

    @cached_property
    def full_dim(self) -> int:
        """Numbers in a vector, found by encoding one text."""
        return int(self._request(["dimension"]).shape[1])

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
            MissingExtraError: The openai package is not installed.
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
            MissingExtraError: The openai package is not installed.
        """
        return self._encode(texts, "document", progress)

    @cached_property
    def _client(self) -> Any:
        openai = require("openai", extra="remote")
        try:
            return openai.OpenAI(base_url=self.base_url, api_key=self._api_key, timeout=self._timeout_s)
        except openai.OpenAIError:  # no key anywhere: a local server needs none, and the client some text
            return openai.OpenAI(base_url=self.base_url, api_key="none", timeout=self._timeout_s)

    def _encode(self, texts: Sequence[str], side: str, progress: Progress) -> Float32Vectors:
        prompt = self._prompts[side]
        parts: list[Float32Vectors] = []
        with progress(f"encoding {'queries' if side == 'query' else 'documents'}", len(texts)) as advance:
            for first in range(0, len(texts), self.batch_size):
                batch = [prompt + text for text in texts[first : first + self.batch_size]]
                parts.append(self._request(batch))
                advance(len(batch))
        if not parts:
            return np.empty((0, self.full_dim), np.float32)
        if len({part.shape[1] for part in parts}) > 1:
            raise EndpointError(f"{self.base_url} answered with vectors of different sizes. Name one model.")
        return normalize(np.concatenate(parts))

    def _request(self, texts: list[str]) -> Float32Vectors:
        openai = require("openai", extra="remote")
        try:
            answer = self._client.embeddings.create(model=self.model, input=texts, encoding_format="float")
            ordered = sorted(answer.data, key=lambda item: item.index)
            vectors: Float32Vectors = np.array([item.embedding for item in ordered], dtype=np.float32)
        except openai.APIConnectionError as error:
            raise EndpointError(
                f"Cannot reach {self.base_url}: {error}. Check the address and that it runs."
            ) from error
        except openai.APIStatusError as error:
            raise EndpointError(f"{self.base_url} refused with status {error.status_code}: {error.message}") from error
        except (openai.OpenAIError, AttributeError, TypeError, ValueError) as error:
            raise EndpointError(f"{self.base_url} answered with something else than embeddings: {error}") from error
        if vectors.ndim != 2 or len(vectors) != len(texts) or not np.isfinite(vectors).all():
            raise EndpointError(
                f"{self.base_url} answered {len(texts)} texts with {list(vectors.shape)} numbers, or some not finite."
            )
        return vectors
