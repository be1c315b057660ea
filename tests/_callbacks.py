"""A callback for fits, where scikit-learn has callbacks."""

from __future__ import annotations

import pytest


def callbacks():
    return pytest.importorskip("sklearn.callback", reason="this scikit-learn has no callbacks")


class Stopper:
    """Asks to stop after so many steps."""

    def __init__(self, after):
        self.after, self.steps = after, 0

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context, **kwargs):
        pass

    def on_fit_task_end(self, estimator, context, **kwargs):
        self.steps += context.task_name == "step"
        return self.steps >= self.after
