"""How much Winograd's algorithm rounds, beside the direct sum and PyTorch's.

Errors are root mean squares against float64, divided by that of the result, in units of 1e-7: over
numbers of channels, and over inputs of awkward scale.

    python benchmarks/winograd_error.py
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from peers import torch

import fastconv

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def compute(name: str, x: np.ndarray, dy: np.ndarray, kernel: np.ndarray, how: str) -> np.ndarray:
    if how == "PyTorch":
        images, gradient, weights = (torch.from_numpy(array) for array in (x, dy, kernel))
        if name == "forward":
            return torch.nn.functional.conv2d(images, weights, padding=1).numpy()
        if name == "input gradient":
            return torch.nn.grad.conv2d_input(x.shape, weights, gradient, padding=1).numpy()
        return torch.nn.grad.conv2d_weight(images, kernel.shape, gradient, padding=1).numpy()
    if name == "forward":
        return fastconv.conv2d(x, kernel, padding=1, algorithm=how)
    if name == "input gradient":
        return fastconv.conv2d_backward_input(dy, kernel, x.shape, padding=1, algorithm=how)
    return fastconv.conv2d_backward_kernel(dy, x, kernel.shape, padding=1, algorithm=how)


def error(name: str, arrays: Arrays, how: str) -> float:
    exact = compute(name, *(array.astype(np.float64) for array in arrays), "direct")
    found = compute(name, *arrays, how)
    return float(np.sqrt(np.mean((found - exact) ** 2) / np.mean(exact**2)) * 1e7)


def normal(N: int, C: int, size: int) -> Arrays:
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, N, C, size, size), dtype=np.float32)
    return x, dy, rng.standard_normal((C, C, 3, 3), dtype=np.float32)


def mixed(N: int, C: int, size: int) -> Arrays:
    """A layer inside a network: ReLU's results, small gradients, weights of all magnitudes."""
    x, dy, kernel = normal(N, C, size)
    scale = np.float32(10) ** np.random.default_rng(1).integers(-3, 1, (C, C, 1, 1))
    return np.maximum(x, 0), dy * np.float32(1e-6), (kernel * scale).astype(np.float32)


def main() -> None:
    columns = ["direct", "winograd", *(["PyTorch"] if torch else [])]
    heads = [{"winograd": "winograd 4x4"}.get(column, column) for column in columns]
    print("| pass | arrays | channels |", *(f"{head} |" for head in heads), "winograd 2x2 |")
    print("|---|---|---|" + "---|" * (len(heads) + 1))
    cases: list[tuple[str, Callable[..., Arrays]]] = [("normal", normal), ("mixed", mixed)]
    for name in ("forward", "input gradient", "kernel gradient"):
        for kind, make in cases:
            for C in (1, 4, 16, 64, 256, 1024) if kind == "normal" else (64,):
                size = 8 if C > 256 else 28
                figures = [error(name, make(1, C, size), how) for how in columns]
                # Images of two pixels a side are computed in tiles of 2x2.
                figures.append(error(name, make(size, C, 2), "winograd"))
                print(f"| {name} | {kind} | {C} |", *(f"{figure:.1f} |" for figure in figures))


if __name__ == "__main__":
    main()
