"""The frame of the optimizers here: arithmetic in at least float32, results in the dtypes they came in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lamina.core as mx
from lamina.optimizers.base import Optimizer


def _widened(x: mx.array) -> mx.array:
    # In 16 bits, an eps of 1e-8 is zero and small steps are lost.
    return x.astype(mx.float32) if x.dtype == mx.float16 or x.dtype == mx.bfloat16 else x


class Rule(Optimizer):
    """An optimizer given by ``next_value``, which sees gradient, parameter and state in at least float32."""

    _of_step: dict[tuple[str, mx.Dtype], Any] | None = None

    def apply_gradients(self, gradients: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
        self._of_step = {}
        try:
            return super().apply_gradients(gradients, parameters)
        finally:
            self._of_step = None

    def _once_a_step(self, name: str, dtype: mx.Dtype, make: Callable[[mx.Dtype], Any]) -> Any:
        """Return ``make(dtype)``, within ``apply_gradients`` made once for all parameters."""
        if self._of_step is None:
            return make(dtype)
        if (name, dtype) not in self._of_step:
            self._of_step[name, dtype] = make(dtype)
        return self._of_step[name, dtype]

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: dict[str, Any]) -> mx.array:
        """Return the parameter's next value and update its state.

        Parameters
        ----------
        gradient, parameter : array
            Of one shape; arithmetic is in float32 for 16-bit dtypes.
        state : dict of arrays
            The parameter's state, as from ``init_single``; it keeps its dtypes.

        Returns
        -------
        array
            The next value, in the dtype of ``parameter``.
        """
        if gradient.shape != parameter.shape:
            raise ValueError(
                f"[{type(self).__name__}] gradient and parameter must agree in shape, got "
                f"{gradient.shape} and {parameter.shape}"
            )
        wide = {name: _widened(value) for name, value in state.items()}
        result = self.next_value(_widened(gradient), _widened(parameter), wide)
        for name, value in wide.items():
            state[name] = value.astype(state[name].dtype)
        return result.astype(parameter.dtype)

    def next_value(self, gradient: mx.array, parameter: mx.array, state: dict[str, mx.array]) -> mx.array:
        """Return the next value of ``parameter`` and put the next state into ``state``."""
        raise NotImplementedError(f"{type(self).__name__} does not define next_value")


def require_at_least_zero(owner: str, **values: float) -> None:
    """Raise ``ValueError`` unless all values are at least 0."""
    for name, value in values.items():
        if not value >= 0:
            raise ValueError(f"[{owner}] {name} must be at least 0, got {value}")


def require_betas(owner: str, betas: Any) -> list[float]:
    """Return two decay rates as a list, or raise ``ValueError`` unless they are two numbers in ``[0, 1)``."""
    rates = list(betas)
    if len(rates) != 2 or not all(0 <= rate < 1 for rate in rates):
        raise ValueError(f"[{owner}] betas must be two numbers in [0, 1), got {rates}")
    return rates
