"""scikit-learn's callbacks, available from version 1.9 on; no effect with older versions."""

from __future__ import annotations

from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn < 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Empty base class for versions of scikit-learn without callbacks."""

    def with_callbacks(method: Any) -> Any:
        """Return `method` unchanged."""
        return method


__all__ = ["CallbackSupportMixin", "progress", "with_callbacks"]

# Attributes that scikit-learn sets on an estimator during a fit; they are not fitted state.
CALLBACK_STATE = (
    "_skl_callbacks",
    "_parent_callback_ctx",
    "_callback_fit_ctx",
    "_skl_callbacks_to_teardown",
)


class Reporting(Protocol):
    """An estimator with the parameter ``verbose``."""

    verbose: int


class Steps:
    """Reports the steps of a fit to callbacks; a call returns whether the fit should stop.

    Attributes
    ----------
    stopped : bool
        Whether a callback has asked to stop.
    """

    def __init__(
        self, estimator: Reporting, X: Any, y: Any, root: Any, max_steps: int | None
    ) -> None:
        self._estimator, self._data, self._root = estimator, {"X": X, "y": y}, root
        self._max_steps = max_steps
        self._interval = getattr(estimator, "verbose_interval", 1)
        self._begin, self._last, self._unprinted = perf_counter(), 0, ""
        self.stopped = False

    def _print(self, text: str) -> None:
        print(f"[{type(self._estimator).__name__}] {text}")
        self._unprinted = ""

    def at_most(self, n_steps: int) -> None:
        """Say how many steps there will be at most, where it was not known before."""
        self._max_steps = n_steps

    def finish(self) -> None:
        """Print the last step, unless it was printed, and the time that all took."""
        if self._estimator.verbose:
            if self._unprinted:
                self._print(self._unprinted)
            self._print(f"{self._last} steps in {perf_counter() - self._begin:.2f} s")

    def stage(self, text: str) -> None:
        """Print what begins, if the estimator is verbose, and the time so far."""
        if self._estimator.verbose:
            if self._unprinted:
                self._print(self._unprinted)
            self._print(f"{text} ({perf_counter() - self._begin:.2f} s)")

    def __call__(self, number: int, objective: float) -> bool:
        """Report step `number` (from 1) with the objective reached."""
        if self._estimator.verbose:
            total = "" if self._max_steps is None else f" of at most {self._max_steps}"
            self._last, self._unprinted = number, f"step {number}{total}: {objective:.6f}"
            if number % self._interval == 0:
                self._print(self._unprinted)
        if self._root is None or (self._max_steps is not None and number > self._max_steps):
            return self.stopped
        context = self._root.subcontext(task_name="step")
        context.call_on_fit_task_begin(estimator=self._estimator, **self._data)
        if context.call_on_fit_task_end(estimator=self._estimator, **self._data):
            self.stopped = True
        return self.stopped


@contextmanager
def progress(estimator: Reporting, X: Any, y: Any, max_steps: int | None) -> Iterator[Steps]:
    """Open the callbacks' context of a fit; yields the function to call after each step.

    Parameters
    ----------
    estimator : object
        Every `verbose_interval`-th step and the last are printed if ``verbose`` is positive, with
        the largest number of steps, and then the time they took; stages, where there are any, with
        the time so far and what ends them.
    X, y : array-like
        Passed on to the callbacks.
    max_steps : int or None
        Largest number of steps, if known.
    """
    root = None
    if getattr(estimator, "_skl_callbacks", None):  # a context for each step takes its time
        root = estimator._init_callback_context(max_subtasks=max_steps)  # type: ignore[attr-defined]
    if root is not None:
        root.call_on_fit_task_begin(estimator=estimator, X=X, y=y)
    steps = Steps(estimator, X, y, root, max_steps)
    yield steps
    steps.finish()
    if root is not None:
        root.call_on_fit_task_end(estimator=estimator, X=X, y=y)
