"""How fast work goes, from the recent past."""

from collections import deque

WINDOW_S = 30.0
"""How far back the recent past goes."""

BASIS_S, BASIS_CALLS = 2.0, 4
"""What a rate needs at least."""

RESOLUTION_S = 0.1
"""What happens within it is kept as one point."""


class Pace:
    """Counts what is done. The first call is where the clock starts: what came before it, such as starting workers and
    compiling a model, is no part of any rate."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, int]] = deque()

    def add(self, done: int, *, now: float) -> None:
        """So many are done at the time `now`, in seconds of any clock."""
        points = self._points
        if len(points) > 1 and points[-1][0] - points[-2][0] < RESOLUTION_S:
            points.pop()
        points.append((now, done))
        while len(points) > BASIS_CALLS and points[0][0] < now - WINDOW_S:
            points.popleft()

    @property
    def rate(self) -> float | None:
        """A second, over the last 30 s, or over the last few calls where these are further apart; None as long as too
        little is known."""
        if len(self._points) < BASIS_CALLS:
            return None
        (start, first), (end, last) = self._points[0], self._points[-1]
        return (last - first) / (end - start) if end - start >= BASIS_S else None
