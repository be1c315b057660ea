"""The steps and stages that a sampler reports to its caller."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Progress:
    """Counts steps for the caller, names stages, and remembers whether to stop.

    Parameters
    ----------
    on_step : callable or None
        Called with the number of the step and the log joint density a row; true stops the run.
    n_rows : int
    on_stage : callable or None, default=None
        Called with what begins, and when it will end.
    """

    def __init__(
        self,
        on_step: Callable[[int, float], bool] | None,
        n_rows: int,
        on_stage: Callable[[str], None] | None = None,
    ) -> None:
        self.on_step, self.on_stage, self.n_rows = on_step, on_stage, n_rows
        self.number, self.stopped = 0, False

    def stage(self, text: str) -> None:
        """Tell the caller what begins."""
        if self.on_stage is not None:
            self.on_stage(text)

    def __call__(self, log_joint: float) -> bool:
        self.number += 1
        if self.on_step is not None and self.on_step(self.number, log_joint / self.n_rows):
            self.stopped = True
        return self.stopped

    def of_jumps(self, number: int, hmaxe: float) -> bool:
        return self(hmaxe * self.n_rows)
