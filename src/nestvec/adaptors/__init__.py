"""Frozen vectors to nested vectors: maps for models that nobody can train."""

from nestvec.adaptors.pca import PCA, fit_pca

__all__ = ["PCA", "fit_pca"]
