"""The count of steps that a sampler of several stages reports to its caller."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Progress:
    """Counts steps for the caller, and remembers whether to stop."""

    def __init__(self, on_step: Callable[[int, float], bool] | None, n_rows: int) -> None:
        self.on_step, self.n_rows = on_step, n_rows
        self.number, self.stopped = 0, False

    def __call__(self, log_joint: float) -> bool:
        self.number += 1
        if self.on_step is not None and self.on_step(self.number, log_joint / self.n_rows):
            self.stopped = True
        return self.stopped

    def of_jumps(self, number: int, hmaxe: float) -> bool:
        return self(hmaxe * self.n_rows)
