"""A bar in a notebook: HTML that the notebook's own display shows and replaces.

Not by rich's live display or tqdm's: both need ipywidgets, which many notebooks don't have, and their bars are gone
from a notebook that was saved. This needs nothing but IPython, which runs every Python notebook.
"""

from html import escape

from softlab.progress.figures import Figures


class NotebookBar:
    """One line below the cell, which stays there with the last figures."""

    every_s = 0.25

    def __init__(self) -> None:
        from IPython.display import display

        self._handle = display(_Line(None), display_id=True)

    def draw(self, figures: Figures) -> None:
        self._handle.update(_Line(figures))

    def settle(self, figures: Figures) -> None:
        self.draw(figures)


class _Line:
    """The same as HTML and, for consoles that show none, as text."""

    def __init__(self, figures: Figures | None) -> None:
        self._figures = figures

    def __repr__(self) -> str:
        return "" if self._figures is None else self._figures.text

    def _repr_html_(self) -> str:
        if self._figures is None:
            return ""
        value = "" if self._figures.share is None else f' value="{self._figures.share:.4f}"'
        return f'<progress max="1"{value}></progress> <code>{escape(self._figures.text)}</code>'
