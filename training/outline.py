"""What a run's model needs of its task, so that it is built again without the data."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Outline:
    """The fields of a `Task` that decide its model's shape, and the names of its classes.

    Attributes:
      steps: of a training batch, None where batches differ. For the others see `Task`.

    >>> from santm_tf import tasks
    >>> outline = Outline.of(tasks.load("digits", batch_size=32, seed=0))
    >>> outline.steps, outline.features, outline.outputs
    (64, 1, 10)
    """

    outputs: int
    features: int | None = None
    length: int | None = None
    steps: int | None = None
    return_sequences: bool = False
    padding: float | None = None
    vocabulary: int | None = None
    stateful: bool = False
    categories: tuple[int, ...] = ()
    classes: list[str] | None = None

    @classmethod
    def of_facts(cls, facts):
        """The outline of what a file of it holds."""
        names = {field.name for field in dataclasses.fields(cls)} & facts.keys()
        return cls(**{**{name: facts[name] for name in names}, "categories": tuple(facts["categories"])})

    @classmethod
    def of(cls, task):
        return cls(**{field.name: getattr(task, field.name) for field in dataclasses.fields(cls)})
