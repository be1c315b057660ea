"""Regression by the conditional distribution of a joint density."""
