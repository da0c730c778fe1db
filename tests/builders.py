"""Tiny data and models, built where they are needed."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

SUBJECTS = ["river", "engine", "planet", "violin", "bridge", "forest", "island", "market", "rocket", "castle"]
VERBS = ["crosses", "powers", "orbits", "plays", "joins", "hides", "feeds", "lifts", "guards", "paints"]
OBJECTS = ["stone", "water", "light", "paper", "metal", "cloud", "bread", "glass", "cotton", "silver"]


def synthetic_rows(count: int, seed: int = 0) -> list[dict[str, object]]:
    """Questions and answers about made-up facts; each fact is asked about once."""
    generator = random.Random(seed)
    facts = [(s, v, o) for s in SUBJECTS for v in VERBS for o in OBJECTS]
    rows = []
    for subject, verb, item in generator.sample(facts, count):
        other = generator.choice([one for one in OBJECTS if one != item])
        rows.append(
            {
                "query": f"what does the {subject} do when it {verb} {item}",
                "positive": f"the {subject} {verb} the {item} every day",
                "negatives": [f"the {subject} {verb} the {other} every day"],
            }
        )
    return rows


def write_json_lines(path: Path, rows: Sequence[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def set_options(overrides: dict[str, object]) -> list[str]:
    """Overrides of a recipe as options of the command line."""
    return [part for key, value in overrides.items() for part in ("--set", f"{key}={value}")]


def build_tiny_model(folder: Path, *, dim: int = 128, seed: int = 0, n_layers: int = 1) -> Path:
    """A small BERT with random weights and a word tokenizer, saved as a sentence-transformers folder."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "what", "does", "the", "do", "when", "it", "every", "day"]
    vocabulary = {word: index for index, word in enumerate([*words, *SUBJECTS, *VERBS, *OBJECTS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=dim,
        num_hidden_layers=n_layers,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=512,
    )
    plain = folder.with_name(folder.name + "-plain")
    BertModel(config).save_pretrained(plain)
    fast.save_pretrained(plain)
    transformer = Transformer(str(plain))
    model = SentenceTransformer(modules=[transformer, Pooling(dim), Normalize()], device="cpu")
    model.save_pretrained(str(folder), create_model_card=False)
    return folder
