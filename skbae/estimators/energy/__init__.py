"""The estimator of any energy."""
