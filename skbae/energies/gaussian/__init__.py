"""Gaussian components in every covariance type, with their conjugate prior."""
