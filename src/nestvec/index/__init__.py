"""Vectors to hits: what searches the codes that a plan chooses."""

from nestvec.index.faiss_scan import FaissScan, Hits, faiss_threads

__all__ = ["FaissScan", "Hits", "faiss_threads"]
