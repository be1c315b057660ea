"""Normalisers, convergence of chains, and the verdict on a run."""
