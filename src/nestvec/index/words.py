"""What counts as a word in a search by words, in texts and in queries alike."""

from __future__ import annotations

import heapq
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TypeAlias

__all__ = ["TOKENIZER", "DocumentFrequencies", "has_unspaced", "index_terms", "match_expression"]

DocumentFrequencies: TypeAlias = Callable[[Sequence[str]], tuple[int, Mapping[str, int]]]

_MOST_TERMS = 32  # of a query: what takes long to look for beyond these says little more

# Scripts that are written without spaces between words, or, as Korean, with endings joined to them: their letters and
# combining marks.
_UNSPACED = (
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u303b\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # Han
    "\U0001b000-\U0001b16f\U00020000-\U0003ffff"  # older Kana, further Han
    "\u3041-\u3096\u3099-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3105-\u312f\u31a0-\u31bf\u31f0-\u31ff"  # Kana, Bopomofo
    "\u1100-\u11ff\u3131-\u318e\ua960-\ua97c\uac00-\ud7fb"  # Hangul
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ece\u0edc-\u0edf"  # Thai, Lao
    "\u1000-\u103f\u1050-\u109f\u1780-\u17d3\u17d7\u17dc-\u17dd"  # Burmese, Khmer
)
_RUN = re.compile(f"[{_UNSPACED}]+")
_VARIATIONS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")  # other shapes of the character before
TOKENIZER = "unicode61 categories 'L* N* M* Co'"
"""Of FTS5: letters, digits and marks make words, so that vowel signs do not cut them."""


def index_terms(text: str) -> str:
    """Return a text as words between spaces.

    Scripts that are written without spaces become overlapping pairs of characters, and the last character of a run by
    itself: so each character begins a word, and one alone is found as the beginning of words.

    Example:
        >>> index_terms("検索 is search")
        ' 検索 索  is search'
    """
    return _RUN.sub(lambda found: f" {' '.join([*_pairs(found[0]), found[0][-1]])} ", _normal(text))


def match_expression(query: str, document_frequencies: DocumentFrequencies | None = None) -> str:
    """Return what FTS5 is asked for: documents with any word of a query. Empty where it has none.

    Args:
        query: A text.
        document_frequencies: Returns how many documents there are, and how many of these have each of some words, as
            the index writes them. With it, of a text of more than 32 different words those of highest tf-idf are
            searched for; None searches for all of them.

    Example:
        >>> match_expression('search 検索 本')
        '"search" OR "検索" OR "本"*'
    """
    terms = Counter(_query_terms(query))
    if document_frequencies is not None and len(terms) > _MOST_TERMS:
        indexed = {term: _indexed(term) for term in terms}
        documents, known = document_frequencies(sorted({word for words in indexed.values() for word in words}))
        rarity = {word: math.log(1 + documents / count) for word, count in known.items()}
        weights = {
            term: count * max((rarity.get(word, 0.0) for word in indexed[term]), default=0.0)
            for term, count in terms.items()
        }
        terms = Counter(dict(heapq.nlargest(_MOST_TERMS, terms.items(), key=lambda one: weights[one[0]])))
    return " OR ".join(terms.elements())


def has_unspaced(text: str) -> bool:
    """Tell whether a text has words of scripts that are written without spaces."""
    return _RUN.search(_normal(text)) is not None


def _query_terms(query: str) -> Iterator[str]:
    # Every word between quotes: what users type is no expression of FTS5.
    for chunk in _normal(query).replace("\0", " ").split():
        end = 0
        for found in _RUN.finditer(chunk):
            yield from _quoted(chunk[end : found.start()])
            run, end = found[0], found.end()
            yield from (f'"{pair}"' for pair in _pairs(run))
            if len(run) == 1:
                yield f'"{run}"*'
        yield from _quoted(chunk[end:])


def _indexed(term: str) -> list[str]:
    """About what FTS5 makes of a term: words in lower case without accents."""
    plain = "".join(mark for mark in unicodedata.normalize("NFKD", term.lower()) if not unicodedata.combining(mark))
    return re.findall(r"\w+", plain)


def _quoted(word: str) -> Iterator[str]:
    if word:
        yield '"' + word.replace('"', '""') + '"'


def _pairs(run: str) -> Iterator[str]:
    return (left + right for left, right in pairwise(run))


def _normal(text: str) -> str:
    """One spelling of what looks alike: half-width Kana, full-width letters, Hangul of single letters, variants."""
    return text if text.isascii() else _VARIATIONS.sub("", unicodedata.normalize("NFKC", text))
