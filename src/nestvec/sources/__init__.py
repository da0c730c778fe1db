"""The name of a model to what gives its vectors."""

from nestvec.sources.loading import load_encoder, make_encoder, split_adaptor
from nestvec.sources.places import absolute_source, find_source

__all__ = ["absolute_source", "find_source", "load_encoder", "make_encoder", "split_adaptor"]
