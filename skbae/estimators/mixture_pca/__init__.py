"""The estimator of mixtures of PCA."""
