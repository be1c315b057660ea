"""Restricted Boltzmann machines on binary or real rows."""
