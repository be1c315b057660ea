"""The estimator of variational autoencoders."""
