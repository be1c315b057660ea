"""The estimator of restricted Boltzmann machines."""
