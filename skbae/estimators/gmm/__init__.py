"""The estimator of Gaussian mixtures."""
