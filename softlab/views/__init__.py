"""What happens to an image between its source and a model."""

from softlab.views.finishing import Finishing, finish

__all__ = ["Finishing", "finish"]
