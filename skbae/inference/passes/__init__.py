"""Passes over rows, and where fits start."""
