r"""Stacks of dense layers and their derivatives.

The parameters of S models are flat vectors (S, P): for each layer in turn a matrix (in, out) and
intercepts (out,). Optimisers and samplers use the vectors; :meth:`Network.layers` returns views of
them as matrices. All functions evaluate S networks at once, for inputs (S, n, in), or (1, n, in) if
all networks have the same inputs.

Hidden layers have a nonlinearity, the last layer has none. A network may have a skip connection
too: a linear map from its inputs that is added to its outputs, so that linear maps are networks
with zeros in the last layer. Derivatives of nonlinearities are
computed from their *output* h, which the forward pass keeps (``1 - h^2`` for tanh).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from skbae._types import Array, FloatArray


@dataclass(frozen=True)
class Layers:
    """Parameters of S networks as matrices, mostly views of vectors.

    Attributes
    ----------
    dense : list of tuples of ndarrays
        Matrix (S, in, out) and intercepts (S, 1, out) of each layer.
    skip : ndarray of shape (S, in, out) or None
        Weights of the linear map from inputs to outputs that is added to the last layer.
    """

    dense: list[tuple[FloatArray, FloatArray]]
    skip: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.dense)

    def __getitem__(self, number: int) -> tuple[FloatArray, FloatArray]:
        return self.dense[number]

    def __iter__(self) -> Iterator[tuple[FloatArray, FloatArray]]:
        return iter(self.dense)


class Scratch:
    """Working arrays that are used again at each call, so that training steps allocate no memory.

    Examples
    --------
    >>> scratch = Scratch()
    >>> scratch("h", (2, 3), np.float32) is scratch("h", (2, 3), np.float32)
    True
    """

    def __init__(self) -> None:
        self._arrays: dict[Any, FloatArray] = {}

    def __call__(self, name: Any, shape: tuple[int, ...], dtype: Any) -> FloatArray:
        """Return the array of this name and shape; its contents are arbitrary."""
        key = (name, shape, dtype)
        found = self._arrays.get(key)
        if found is None:
            found = self._arrays[key] = np.empty(shape, dtype)
        return found


class Activation(ABC):
    """A nonlinearity, and its derivative as a function of its output."""

    @abstractmethod
    def apply(self, values: FloatArray) -> None:
        """Apply the nonlinearity to `values`, in place."""

    @abstractmethod
    def chain(self, gradient: FloatArray, output: FloatArray, work: FloatArray) -> None:
        """Multiply `gradient` by the derivative where the output is `output`; `work` is scratch."""


class Tanh(Activation):
    """``tanh(a)``."""

    def apply(self, values: FloatArray) -> None:
        np.tanh(values, out=values)

    def chain(self, gradient: FloatArray, output: FloatArray, work: FloatArray) -> None:
        np.multiply(output, output, out=work)
        np.subtract(1, work, out=work)
        gradient *= work


class Relu(Activation):
    """``max(a, 0)``; the derivative at zero is zero."""

    def apply(self, values: FloatArray) -> None:
        np.maximum(values, 0, out=values)

    def chain(self, gradient: FloatArray, output: FloatArray, work: FloatArray) -> None:
        gradient *= output > 0


class Logistic(Activation):
    """``1 / (1 + exp(-a))``."""

    def apply(self, values: FloatArray) -> None:
        values *= 0.5
        np.tanh(values, out=values)  # cannot overflow
        values += 1
        values *= 0.5

    def chain(self, gradient: FloatArray, output: FloatArray, work: FloatArray) -> None:
        np.subtract(1, output, out=work)
        work *= output
        gradient *= work


class Identity(Activation):
    """``a``: the network is linear."""

    def apply(self, values: FloatArray) -> None:
        pass

    def chain(self, gradient: FloatArray, output: FloatArray, work: FloatArray) -> None:
        pass


ACTIVATIONS: dict[str, Activation] = {
    "tanh": Tanh(),
    "relu": Relu(),
    "logistic": Logistic(),
    "identity": Identity(),
}


@dataclass(frozen=True)
class Network:
    """The shape of a network.

    Attributes
    ----------
    sizes : tuple of int
        Numbers of inputs, of units of each hidden layer, and of outputs.
    activation : str
        A key of `ACTIVATIONS`.
    skip : bool, default=False
        Whether there is a linear map from inputs to outputs as well; a network without hidden
        layers, which is one, has no other.

    Examples
    --------
    >>> Network((2, 5, 3), "tanh").n_parameters, Network((2, 5, 3), "tanh", skip=True).n_parameters
    (33, 39)
    """

    sizes: tuple[int, ...]
    activation: str
    skip: bool = False

    @property
    def skip_size(self) -> int:
        """Number of weights of the skip connection."""
        return self.sizes[0] * self.sizes[-1] if self.skip and len(self.sizes) > 2 else 0

    @property
    def n_parameters(self) -> int:
        """P."""
        dense = sum((m + 1) * n for m, n in zip(self.sizes[:-1], self.sizes[1:], strict=True))
        return dense + self.skip_size

    def layers(self, theta: FloatArray) -> Layers:
        """Return views of the layers in vectors (S, P), or (S, more)."""
        found, at = [], 0
        for m, n in zip(self.sizes[:-1], self.sizes[1:], strict=True):
            matrix = theta[:, at : at + m * n].reshape(-1, m, n)
            at += m * n
            found.append((matrix, theta[:, at : at + n].reshape(-1, 1, n)))
            at += n
        if not self.skip_size:
            return Layers(found)
        skip = theta[:, at : at + self.skip_size]
        return Layers(found, skip.reshape(-1, self.sizes[0], self.sizes[-1]))

    def flatten(
        self,
        coefs: Sequence[FloatArray],
        intercepts: Sequence[FloatArray],
        skip: FloatArray | None = None,
    ) -> FloatArray:
        """Return vectors (S, P) from matrices (S, in, out) and intercepts (S, out)."""
        parts = []
        for matrix, intercept in zip(coefs, intercepts, strict=True):
            parts += [matrix.reshape(len(matrix), -1), intercept]
        if skip is not None:
            parts.append(skip.reshape(len(skip), -1))
        return np.concatenate(parts, axis=1)

    def fan_in(self) -> Array:
        """Return the number of inputs of each parameter's unit, (P,); 1 for intercepts."""
        parts = []
        for m, n in zip(self.sizes[:-1], self.sizes[1:], strict=True):
            parts += [np.full(m * n, float(m)), np.ones(n)]
        parts.append(np.full(self.skip_size, float(self.sizes[0])))
        return np.concatenate(parts)

    def weight_ranges(self) -> list[slice]:
        """Return where a vector has weights of layers; not intercepts, nor the skip's."""
        found, at = [], 0
        for m, n in zip(self.sizes[:-1], self.sizes[1:], strict=True):
            found.append(slice(at, at + m * n))
            at += (m + 1) * n
        return found

    def draw(self, rng: np.random.Generator) -> Array:
        """Draw initial parameters, (P,): random weights of the layers (Glorot and Bengio 2010)."""
        parts = []
        for m, n in zip(self.sizes[:-1], self.sizes[1:], strict=True):
            bound = np.sqrt(6.0 / (m + n))
            parts += [rng.uniform(-bound, bound, m * n), np.zeros(n)]
        parts.append(np.zeros(self.skip_size))
        return np.concatenate(parts)

    def forward(
        self, layers: Layers, inputs: FloatArray, scratch: Scratch, name: str = "forward"
    ) -> list[FloatArray]:
        """Return the outputs of all layers, the inputs first.

        Parameters
        ----------
        layers : Layers
            From :meth:`layers`.
        inputs : ndarray of shape (S, n, in) or (1, n, in)
        scratch : Scratch
            Holds the returned arrays, which the next call with the same name overwrites.
        name : str
        """
        activation = ACTIVATIONS[self.activation]
        outputs = [inputs]
        for number, (matrix, intercept) in enumerate(layers):
            n_models = max(len(matrix), len(outputs[-1]))
            shape = (n_models, inputs.shape[1], matrix.shape[2])
            out = scratch((name, number), shape, inputs.dtype)
            np.matmul(outputs[-1], matrix, out=out)
            out += intercept
            if number < len(layers) - 1:
                activation.apply(out)
            outputs.append(out)
        if layers.skip is not None:
            work = scratch((name, "skip"), outputs[-1].shape, inputs.dtype)
            np.matmul(inputs, layers.skip, out=work)
            outputs[-1] += work
        return outputs

    def backward(
        self,
        layers: Layers,
        outputs: list[FloatArray],
        gradient: FloatArray,
        total: FloatArray | None,
        scratch: Scratch,
        name: str = "backward",
        inputs: bool = True,
    ) -> FloatArray:
        """Propagate a gradient from the outputs to the parameters and the inputs.

        Parameters
        ----------
        layers : Layers
        outputs : list of ndarray
            From :meth:`forward`.
        gradient : ndarray of shape (S, n, out)
            Gradient with respect to the outputs of the last layer.
        total : ndarray of shape (S, P) or None
            Receives the gradient with respect to the parameters, summed over the n rows.
        scratch : Scratch
        name : str
        inputs : bool, default=True
            Whether to compute the gradient with respect to the inputs.

        Returns
        -------
        ndarray of shape (S, n, in)
            Gradient with respect to the inputs; with ``inputs=False``, with respect to the sums of
            the first layer.
        """
        activation = ACTIVATIONS[self.activation]
        slots = None if total is None else self.layers(total)
        last = gradient
        if slots is not None and slots.skip is not None:
            np.matmul(np.swapaxes(outputs[0], 1, 2), last, out=slots.skip)
        for number in reversed(range(len(layers))):
            matrix = layers[number][0]
            if slots is not None:
                np.matmul(np.swapaxes(outputs[number], 1, 2), gradient, out=slots[number][0])
                np.add.reduce(gradient, axis=1, out=slots[number][1], keepdims=True)
            if number == 0 and not inputs:
                return gradient
            shape = (len(gradient), gradient.shape[1], matrix.shape[1])
            before = scratch((name, number), shape, gradient.dtype)
            np.matmul(gradient, np.swapaxes(matrix, 1, 2), out=before)
            if number:
                work = scratch((name, number, "work"), outputs[number].shape, gradient.dtype)
                activation.chain(before, outputs[number], work)
            gradient = before
        if layers.skip is not None:
            gradient += np.matmul(last, np.swapaxes(layers.skip, 1, 2))
        return gradient

    def jacobian(self, layers: Layers, outputs: list[FloatArray]) -> FloatArray:
        """Return the derivatives of the outputs in the inputs, (S, n, in, out).

        Parameters
        ----------
        layers : Layers
        outputs : list of ndarray
            From :meth:`forward`.
        """
        activation = ACTIVATIONS[self.activation]
        first = layers[0][0]
        n_models, n = len(outputs[-1]), outputs[-1].shape[1]
        tangents = np.broadcast_to(first[:, None], (n_models, n, *first.shape[1:]))
        for number in range(1, len(layers)):
            matrix, output = layers[number][0], outputs[number][:, :, None]
            tangents = np.array(tangents)
            output = np.broadcast_to(output, tangents.shape)
            activation.chain(tangents, output, np.empty_like(tangents))
            flat = tangents.reshape(n_models, -1, matrix.shape[1])
            tangents = np.matmul(flat, matrix).reshape(n_models, n, -1, matrix.shape[2])
        if layers.skip is not None:
            tangents += layers.skip[:, None]
        return tangents
