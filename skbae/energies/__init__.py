"""Energies ``H(x, m, z)``: one folder for each family, arrays in and arrays out.

Nothing here depends on how a model is fitted or sampled (``skbae.inference``), or on scikit-learn's
conventions for estimators (``skbae.estimators``). The abstract classes in
:mod:`skbae.energies._base` and ``_capabilities`` define what a family implements.
"""
