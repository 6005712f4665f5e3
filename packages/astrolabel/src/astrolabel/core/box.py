"""Integer pixel boxes: where an array lies in a larger frame."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Box:
    """Rows ``y0 .. y0+height-1`` and columns ``x0 .. x0+width-1`` of some frame.

    Pixel (y, x) has its centre at integer (y, x), as in numpy and in FITS less one.
    """

    y0: int
    x0: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height < 0 or self.width < 0:
            raise ValueError(f"a box cannot have a negative side: {self}")

    @property
    def y1(self) -> int:
        """One past the last row."""
        return self.y0 + self.height

    @property
    def x1(self) -> int:
        """One past the last column."""
        return self.x0 + self.width

    @property
    def shape(self) -> tuple[int, int]:
        return (self.height, self.width)

    @property
    def area(self) -> int:
        return self.height * self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of this box in an array of its frame; the box must lie inside."""
        return (slice(self.y0, self.y1), slice(self.x0, self.x1))

    def slices_in(self, other: Box) -> tuple[slice, slice]:
        """Index of this box in an array that covers `other`, which must contain it."""
        return self.shifted(-other.y0, -other.x0).slices

    def shifted(self, dy: int, dx: int) -> Box:
        return Box(self.y0 + dy, self.x0 + dx, self.height, self.width)

    def expanded(self, pixels: int) -> Box:
        """The box grown by `pixels` on every side (shrunk where negative)."""
        return Box.from_corners(
            self.y0 - pixels, self.x0 - pixels, self.y1 + pixels, self.x1 + pixels
        )

    def contains(self, y: float, x: float) -> bool:
        """Whether the pixel that holds (y, x) lies in the box."""
        return self.y0 - 0.5 <= y < self.y1 - 0.5 and self.x0 - 0.5 <= x < self.x1 - 0.5

    def __and__(self, other: Box) -> Box:
        """The overlap; of zero area where there is none."""
        return Box.from_corners(
            max(self.y0, other.y0),
            max(self.x0, other.x0),
            min(self.y1, other.y1),
            min(self.x1, other.x1),
        )

    def __or__(self, other: Box) -> Box:
        """The smallest box that holds both."""
        return Box.from_corners(
            min(self.y0, other.y0),
            min(self.x0, other.x0),
            max(self.y1, other.y1),
            max(self.x1, other.x1),
        )

    @classmethod
    def from_corners(cls, y0: int, x0: int, y1: int, x1: int) -> Box:
        """From the first row and column and one past the last."""
        return cls(int(y0), int(x0), max(int(y1) - int(y0), 0), max(int(x1) - int(x0), 0))

    @classmethod
    def of_shape(cls, shape: tuple[int, ...]) -> Box:
        """The whole of an array, by its last two axes."""
        return cls(0, 0, int(shape[-2]), int(shape[-1]))

    @classmethod
    def around(cls, y: float, x: float, radius: int) -> Box:
        """The square of side ``2*radius+1`` centred on the pixel that holds (y, x)."""
        cy, cx = round(y), round(x)
        return cls(cy - radius, cx - radius, 2 * radius + 1, 2 * radius + 1)
