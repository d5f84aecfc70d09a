"""The libraries beside which fastconv is measured. Each may be missing; then its column is.

Here is what every use of a library needs: its import, its threads, its arrays. How it does a piece
of work stands beside how fastconv does it, in ``operations.py`` and ``networks.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import fastconv

INSTALL = {"torch": "torch", "onnxruntime": "onnxruntime onnx", "scipy": "scipy"}

try:
    import torch
except ImportError:
    torch = None
else:
    torch.set_grad_enabled(False)  # training steps turn it on for themselves

try:
    import onnx
    import onnxruntime
except ImportError:
    onnx = onnxruntime = None

try:
    import scipy
    import scipy.ndimage
    import scipy.signal
except ImportError:
    scipy = None

LIBRARIES = {"torch": torch, "onnxruntime": onnxruntime, "scipy": scipy}


def missing() -> list[str]:
    """One line for each library that is not installed."""
    return [
        f"{name} is not installed and will not be measured: pip install {INSTALL[name]}"
        for name, library in LIBRARIES.items()
        if library is None
    ]


def set_num_threads(threads: int) -> None:
    """For all libraries; ONNX Runtime's sessions are made with the number then in force."""
    fastconv.set_num_threads(threads)
    if torch:
        torch.set_num_threads(threads)


def to_torch(array: np.ndarray, order: str) -> Any:
    """The tensor of an array in a memory format; without a copy where it lies so already."""
    last = order == "channels_last"
    memory = torch.channels_last if last else torch.contiguous_format
    return torch.from_numpy(array).contiguous(memory_format=memory)


def onnx_call(
    nodes: Sequence, x: np.ndarray, weights: dict[str, np.ndarray], outputs: Sequence[str] = ("y",)
) -> Callable[[], Any]:
    """What runs a graph from input "x" to `outputs`, on arrays that are bound once.

    Binding spares the session a copy of its results on every run. Its threads stop to spin when a
    run is over, so that they do not take a core from whoever is measured next.
    """
    float32, int64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
    values = [
        onnx.helper.make_tensor_value_info(name, int64 if name == "indices" else float32, None)
        for name in outputs
    ]
    inputs = [onnx.helper.make_tensor_value_info("x", float32, x.shape)]
    constants = [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = onnx.helper.make_graph(nodes, "graph", inputs, values, constants)
    # Versions that every ONNX Runtime of the last years reads.
    opset = onnx.helper.make_opsetid("", 17)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = fastconv.get_num_threads()
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    binding = session.io_binding()
    binding.bind_cpu_input("x", x)
    for name in outputs:
        binding.bind_output(name)

    def call() -> Any:
        session.run_with_iobinding(binding)
        return binding

    return call


def first_array(result: Any) -> np.ndarray:
    """The first array of what a contender returned, whichever library's it is."""
    if onnx and hasattr(result, "copy_outputs_to_cpu"):
        result = result.copy_outputs_to_cpu()
    if isinstance(result, tuple | list):
        result = next(value for value in result if value is not None)
    return np.asarray(result)
