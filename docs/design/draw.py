"""Draw the pictures of docs/design.md:  python docs/design/draw.py

Each is an SVG beside this file, narrow enough for a phone, on a ground of its own so that it reads
the same on a light and on a dark page.
"""

from pathlib import Path

FOLDER = Path(__file__).parent
INK, LINE, GROUND = "#1d2733", "#7b8794", "#fbfaf7"
BLUE, RED, GREEN, YELLOW, GREY = "#cfe0f5", "#f6d3cd", "#d3ebd5", "#fbe9b7", "#e8e9eb"


class Picture:
    """Shapes and words, collected in the order in which they are painted."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.width, self.height = width, height
        self.parts = [f"<title>{title}</title>"]
        self.parts.append(
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            f'markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z" fill="{INK}"/></marker></defs>'
        )
        self.box(0, 0, width, height, GROUND, stroke="none", round=10)

    def box(self, x, y, w, h, fill="none", *, stroke=LINE, round=4, dash="", thick=1):
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="{round}" fill="{fill}" '
            f'stroke="{stroke}" stroke-width="{thick}"'
            + (f' stroke-dasharray="{dash}"/>' if dash else "/>")
        )

    def text(self, x, y, words, *, size=13, anchor="start", bold=False, colour=INK, mono=False):
        family = "ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace" if mono else (
            "system-ui,'Segoe UI',Roboto,'DejaVu Sans',sans-serif"
        )
        words = words.replace("&", "&amp;").replace("<", "&lt;")
        self.parts.append(
            f'<text x="{x}" y="{y}" font-family="{family}" font-size="{size}" fill="{colour}" '
            f'text-anchor="{anchor}"' + (' font-weight="600"' if bold else "") + f">{words}</text>"
        )

    def arrow(self, *points, dash=""):
        path = "M" + " ".join(f"{x} {y}" for x, y in points)
        self.parts.append(
            f'<path d="{path}" fill="none" stroke="{INK}" stroke-width="1.3" '
            f'marker-end="url(#tip)"' + (f' stroke-dasharray="{dash}"/>' if dash else "/>")
        )

    def write(self, name: str) -> None:
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
            f'width="{self.width}" height="{self.height}" role="img">'
        )
        (FOLDER / f"{name}.svg").write_text("\n".join([head, *self.parts, "</svg>"]) + "\n")


def floors() -> None:
    """A call on its way down."""
    steps = [
        ("model.fit", "fastconv/nn", "layers, and training them", GREEN),
        ("fastconv.conv2d", "fastconv/functional", "operations on arrays", GREEN),
        ("door", "_core/conv.pyx", "arguments are checked, memory found", BLUE),
        ("plan", "_core/run.pyx, nests.pyx", "from the cache, or made once", BLUE),
        ("loop nest", "_core/correlate.pyx, …", "tasks, on all threads", BLUE),
        ("leaf", "_core/ukernels", "one tile, in registers", RED),
    ]
    p = Picture(440, 462, "A call goes down six floors, from a layer to a register tile.")
    p.text(20, 30, "A call goes straight down", bold=True, size=15)
    y = 48
    for i, (name, where, what, fill) in enumerate(steps):
        p.box(20, y, 306, 50, fill)
        p.text(34, y + 21, name, bold=True)
        p.text(34, y + 39, what, size=12.5)
        p.text(314, y + 21, where, size=11, anchor="end", mono=True)
        if i < len(steps) - 1:
            p.arrow((60, y + 50), (60, y + 66))
        y += 66
    for top, bottom, word in ((48, 164, "Python"), (180, 362, "Cython"), (378, 428, "C")):
        p.box(338, top, 5, bottom - top, LINE, stroke="none", round=2)
        p.text(352, (top + bottom) / 2 + 4, word, bold=True)
    p.text(352, 334, "from here on", size=12)
    p.text(352, 349, "without GIL", size=12)
    p.text(20, 450, "Errors are raised at the door and nowhere below.", size=12.5)
    p.write("floors")


def nest() -> None:
    """How an image is cut, down to a tile."""
    p = Picture(440, 586, "An image is cut into tasks, a task into tiles of pixels by lanes.")
    p.text(20, 30, "Channels in the lanes: how the work is cut", bold=True, size=15)
    # The result: images behind each other, rows in blocks.
    p.text(20, 56, "y: N images of OH x OW pixels of OC channels", size=12.5)
    for shift in (16, 8, 0):
        p.box(20 + shift, 84 - shift, 150, 120, "#ffffff", round=2)
    for row in range(5):
        p.box(20, 84 + 24 * row, 150, 24, YELLOW if row == 1 else GREY, round=0)
    p.text(95, 125, "a task", anchor="middle", bold=True, size=12.5)
    p.text(206, 92, "Tasks are blocks of rows (or of", size=12.5)
    p.text(206, 109, "images) and of channels.  Their", size=12.5)
    p.text(206, 126, "size follows from shape and", size=12.5)
    p.text(206, 143, "caches; threads take them in", size=12.5)
    p.text(206, 160, "any order, since no two write", size=12.5)
    p.text(206, 177, "one place.", size=12.5)
    p.arrow((95, 134), (95, 240))
    # The task: pixels to the right, lanes downward.
    p.text(20, 258, "a task: its pixels →", size=12.5)
    p.text(20, 276, "lane blocks ↓", size=12.5)
    for block in range(2):
        for tile in range(4):
            hot = (block, tile) == (0, 1)
            p.box(20 + 100 * tile, 286 + 40 * block, 100 if tile < 3 else 60, 40,
                  RED if hot else BLUE, round=0)
    p.text(170, 311, "one tile", anchor="middle", bold=True, size=12.5)
    p.text(20, 388, "A lane block is some vectors of output channels.  Its panel", size=12.5)
    p.text(20, 405, "of packed kernel stays in L2 while the task's pixels pass by.", size=12.5)
    p.arrow((170, 326), (170, 372), dash="3 3")
    p.arrow((170, 412), (170, 430))
    p.text(20, 448, "a tile: its sum, in one call", size=12.5)
    for i, (word, fill) in enumerate((("kh", GREEN), ("kw", GREEN), ("ic", GREEN))):
        p.box(20 + 14 * i, 458 + 22 * i, 236 - 20 * i, 108 - 28 * i, fill, round=3)
        p.text(30 + 14 * i, 474 + 22 * i, f"for {word}", size=12, mono=True)
    p.text(72, 542, "acc += x · kernel", size=12, mono=True)
    p.text(272, 476, "The accumulators stay", size=12.5)
    p.text(272, 493, "in registers; x is read", size=12.5)
    p.text(272, 510, "where it lies; bias and", size=12.5)
    p.text(272, 527, "ReLU come with the", size=12.5)
    p.text(272, 544, "last store.", size=12.5)
    p.write("nest")


def tile() -> None:
    """One step of the register tile."""
    rows, vectors, lanes = 5, 2, 8
    p = Picture(440, 392, "One step of the tile: a column of a times a row of b, added to a table.")
    p.text(20, 30, "One step k of a register tile", bold=True, size=15)
    left, top, cell, high = 170, 126, 15, 30
    p.text(left, 58, "b[k]: NR vectors of output channels,", size=12.5)
    p.text(left, 74, "from the packed kernel", size=12.5)
    for vector in range(vectors):
        for lane in range(lanes):
            p.box(left + vector * (lanes * cell + 10) + lane * cell, 84, cell, 22, BLUE, round=0)
    p.text(20, 104, "a: MR pixels,", size=12.5)
    p.text(20, 120, "one channel each", size=12.5)
    for row in range(rows):
        y = top + row * high
        name = f"x[{row}]" if row < rows - 1 else "x[MR-1]"
        p.text(20, y + 18, name, size=12, mono=True)
        p.box(80, y + 2, 24, 22, YELLOW, round=0)
        p.arrow((106, y + 13), (left - 6, y + 13))
        p.text(130, y + 9, "all lanes", size=9.5, anchor="middle")
        for vector in range(vectors):
            for lane in range(lanes):
                p.box(left + vector * (lanes * cell + 10) + lane * cell, y + 2, cell, 22,
                      RED, round=0)
    for vector in range(vectors):
        x = left + vector * (lanes * cell + 10) + lanes * cell / 2
        p.arrow((x, 107), (x, top))
    y = top + rows * high + 14
    p.text(left, y + 2, "acc: MR x NR registers,", size=12.5)
    p.text(left, y + 18, "each += a · b", size=12.5)
    p.text(20, y + 50, "MR broadcasts and NR loads feed MR · NR vector multiply-adds:", size=12.5)
    p.text(20, y + 67, "with 14 x 2, sixteen reads for 28.  The table is stored once,", size=12.5)
    p.text(20, y + 84, "when kh, kw and ic are summed.", size=12.5)
    p.write("tile")


if __name__ == "__main__":
    floors()
    nest()
    tile()
