"""Mixtures of PCA: components with codes of their own."""
