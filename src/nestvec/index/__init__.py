"""Vectors to hits: what searches the codes that a plan chooses."""

from nestvec.index.faiss_scan import FaissScan, Hits, SecondStage, faiss_threads

__all__ = ["FaissScan", "Hits", "SecondStage", "faiss_threads"]
