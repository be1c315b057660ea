"""Small ordinary tables: every family is at least as good as its simplest special cases.

Networks and machines are held to more in test_vae_tables.py and test_rbm_tables.py.
"""

from __future__ import annotations

import pytest
from _instances import SPECIAL, each_special
from _tables import TABLES

import skbae

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@each_special
@pytest.mark.parametrize("name", TABLES)
def test_a_fit_is_at_least_as_good_as_its_simplest_special_case(name, special):
    X = TABLES[name]()
    fitted = special.make(X).fit(X)
    for simplest in special.simplest:
        value = simplest(X)
        assert fitted.hmaxe_ >= value - special.tolerance


def test_every_family_is_among_them():
    families = {type(special.make(TABLES["iris"]())).__name__ for special in SPECIAL}
    exported = {name for name in skbae.__all__ if name.startswith("Bayesian")}
    assert families == exported - {"BayesianMixtureAutoEncoder"}
