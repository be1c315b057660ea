"""The estimator of PCA."""
