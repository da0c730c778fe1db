"""Near-duplicates, judged by every pair's exact Jaccard similarity. Run: pytest tests/test_data_near_duplicates.py."""

from __future__ import annotations

import random
import re

from nestvec.data.near_duplicates import first_of_near_duplicates


def exact_first(texts: list[str], threshold: float) -> list[int]:
    """The same definition by comparing with every kept text."""

    def shingles(text: str) -> set[tuple[str, ...]]:
        words = re.findall(r"\w+", text.lower())
        return {tuple(words[i : i + 3]) for i in range(max(1, len(words) - 2))}

    firsts: list[int] = []
    sets = [shingles(text) for text in texts]
    for index, own in enumerate(sets):
        kept = [i for i in range(index) if firsts[i] == i]
        same = [i for i in kept if len(own & sets[i]) >= threshold * len(own | sets[i])]
        firsts.append(same[0] if same else index)
    return firsts


def test_minhash_finds_what_comparing_every_pair_finds() -> None:
    generator = random.Random(0)
    words = [f"word{i}" for i in range(300)]
    texts = []
    for _ in range(150):
        text = generator.choices(words, k=generator.randint(5, 80))
        texts.append(" ".join(text))
        if generator.random() < 0.5:  # a copy with a few words changed, on both sides of the threshold
            for _ in range(generator.randint(0, 4)):
                text[generator.randrange(len(text))] = generator.choice(words)
            texts.append(" ".join(text))
    expected = exact_first(texts, 0.8)
    found = first_of_near_duplicates(texts, threshold=0.8)
    duplicates = sum(index != first for index, first in enumerate(expected))
    assert duplicates > 20
    missed = sum(one != other for one, other in zip(found, expected, strict=True))
    assert missed <= 1  # bands miss a pair at the threshold with a probability of 0.2%


def test_case_and_punctuation_do_not_count() -> None:
    assert first_of_near_duplicates(["Return a copy, now!", "x y z", "return a copy now"]) == [0, 1, 0]


def test_texts_without_words_and_empty_lists_are_no_trouble() -> None:
    assert first_of_near_duplicates([]) == []
    assert first_of_near_duplicates(["", "---", "a"]) == [0, 0, 2]


def test_the_result_does_not_depend_on_hash_randomisation() -> None:
    texts = [f"the value number {i % 40} of the list" for i in range(80)]
    assert first_of_near_duplicates(texts) == exact_first(texts, 0.8)
