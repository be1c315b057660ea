"""Mixtures of any components, of columns of any kinds."""
