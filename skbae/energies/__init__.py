"""Energies ``H(x, m, z)``: one family a file, arrays in and arrays out.

Nothing here knows how a model is found or sampled (``skbae.inference``) nor what scikit-learn
expects of an estimator (``skbae.estimators``). The abstract classes in
:mod:`skbae.energies._base` (and ``_capabilities``) say what a family must offer.
"""
