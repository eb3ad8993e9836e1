"""What happens to an image between its source and a model."""

from softlab.views.finishing import Finishing, finish
from softlab.views.replay import Replay
from softlab.views.view_recipe import ViewRecipe

__all__ = ["Finishing", "Replay", "ViewRecipe", "finish"]
