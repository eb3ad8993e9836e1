"""What a teacher's classes are called: from a file, or as published weights of torchvision or a model's own
configuration tell."""

from pathlib import Path

from softlab.errors import InvalidOption
from softlab.models.build import ModelOptions
from softlab.models.hugging_face import configured_class_names

NEXT_STEP = "Give a text file with the name of one class a line, in the teacher's order."


def read_class_names(path: Path) -> tuple[str, ...]:
    """Those in a text file, one a line, in the order of the classes. Raises InvalidOption for a file without names, and
    for an empty line between them: it would shift all that follow."""
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InvalidOption(f"{path}: can't read these class names: {reason}. {NEXT_STEP}") from error
    names = tuple(line.strip() for line in lines)
    while names and not names[-1]:
        names = names[:-1]
    if not names:
        raise InvalidOption(f"{path}: holds no class names. {NEXT_STEP}")
    if "" in names:
        raise InvalidOption(f"{path}: line {names.index('') + 1} is empty. {NEXT_STEP}")
    return names


def published_class_names(options: ModelOptions) -> tuple[str, ...] | None:
    """Of `torchvision:NAME` with weights that torchvision publishes, named in its arguments or as a downloaded file; of
    `hf:NAME` as its configuration names them. None of any other model."""
    origin, _, name = options.model.partition(":")
    if origin == "hf":
        return configured_class_names(name, options.arguments)
    if origin != "torchvision":
        return None
    import torchvision.models  # takes as long as torch, and other models don't need it

    if name not in torchvision.models.list_models():
        return None
    published = torchvision.models.get_model_weights(name)
    asked = options.arguments.get("weights")
    for weights in published:
        is_asked = options.weights is None and str(asked).removeprefix(f"{published.__name__}.") == weights.name
        is_file = options.weights is not None and options.weights.name == weights.url.rpartition("/")[2]
        if is_asked or is_file:
            return tuple(weights.meta.get("categories", ())) or None
    if options.weights is None and asked == "DEFAULT":
        return tuple(published.DEFAULT.meta.get("categories", ())) or None
    return None
