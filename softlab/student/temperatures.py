"""At which temperature students train where none is given."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from softlab.labels.losses import settled_loss
from softlab.store.reader import Store
from softlab.student.options import LearnOptions, Student, TrainOptions
from softlab.student.robust_options import with_papers_temperature


def settle_temperatures(
    options: TrainOptions, students: Mapping[str, Student], stores: Sequence[Store]
) -> tuple[TrainOptions, dict[str, Student]]:
    """The same options, each loss with the temperature that the stores give it where none was given."""
    with_labels = [store for store in stores if store.has_labels]
    if not with_labels:
        return options, dict(students)
    first, lowest = with_labels[0], max(min(store.temperatures) for store in with_labels)
    interpolates = all(store.interpolates for store in with_labels)

    def settled(learn: LearnOptions) -> LearnOptions:
        loss = settled_loss(
            learn.loss if learn.robust is None else with_papers_temperature(learn.loss, learn.robust),
            num_classes=first.num_classes,
            head=first.head,
            lowest=lowest,
            interpolates=interpolates,
        )
        return replace(learn, loss=loss)

    own = {
        name: student if student.learn is None else replace(student, learn=settled(student.learn))
        for name, student in students.items()
    }
    return replace(options, learn=settled(options.learn)), own
