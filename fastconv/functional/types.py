"""What arguments may be, for type checkers."""

from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

Pair = int | tuple[int, int]

Border = int | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]]

Padding = Border | str
