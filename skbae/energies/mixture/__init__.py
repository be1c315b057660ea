"""Mixtures of any components: weights, categorical codes, the pass over rows."""
