"""scikit-learn's callbacks (1.9 and newer), and nothing below."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn < 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands in where scikit-learn has no callbacks."""

    def with_callbacks(method: Any) -> Any:
        """Return `method` unchanged."""
        return method


__all__ = ["CallbackSupportMixin", "progress", "with_callbacks"]

# Set by scikit-learn on an estimator; they belong to a run, not to a fitted model.
CALLBACK_STATE = (
    "_skl_callbacks",
    "_parent_callback_ctx",
    "_callback_fit_ctx",
    "_skl_callbacks_to_teardown",
)


@contextmanager
def progress(
    estimator: Any, X: Any, y: Any, max_steps: int | None
) -> Iterator[Callable[[int, float], bool]]:
    """Open the callbacks' context of a fit; yields a function to call after each step.

    The function takes the number of the step and the objective, and returns whether a callback
    asks to stop. It also prints when the estimator is verbose.

    Parameters
    ----------
    estimator : object
    X, y : array-like
        Passed on to the callbacks.
    max_steps : int or None
        Largest number of steps, if known.
    """
    open_context = getattr(estimator, "_init_callback_context", None)
    root = None if open_context is None else open_context(max_subtasks=max_steps)
    if root is not None:
        root.call_on_fit_task_begin(estimator=estimator, X=X, y=y)

    def step(number: int, objective: float) -> bool:
        if estimator.verbose:
            print(f"[{type(estimator).__name__}] step {number}: {objective:.6f}")
        if root is None or (max_steps is not None and number > max_steps):
            return False
        context = root.subcontext(task_name="step")
        context.call_on_fit_task_begin(estimator=estimator, X=X, y=y)
        return bool(context.call_on_fit_task_end(estimator=estimator, X=X, y=y))

    yield step
    if root is not None:
        root.call_on_fit_task_end(estimator=estimator, X=X, y=y)
