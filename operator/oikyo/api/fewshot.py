"""spec.data.fewShot: examples from the training split that the verdict puts before each question."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .base import Model, Word

ChooseBy = Literal["Similarity", "Diversity", "Class"]
PREFIX = "few_shot_"
"""Before the name of a metric that was measured with examples in the prompt."""


class FewShot(Model):
    """How many examples, and which."""

    examples: Annotated[
        int,
        Field(ge=1, le=32, description="Examples in a prompt, 1 to 32. Default: 4. Example: 8."),
    ] = 4
    choose_by: Annotated[
        ChooseBy,
        Field(
            description="Similarity takes for each test row the training rows most like it (TF-IDF of words "
            "and pairs of words), the most like last; Diversity the same rows for all, each as far from "
            "the others as can be; Class the same rows for all, of different classes in turn, the "
            "most frequent first: of different answers, or as classBy says. Default: Similarity. Example: Class."
        ),
    ] = "Similarity"
    class_by: Annotated[
        Word | None,
        Field(
            min_length=1,
            description="Column of data.sliceBy with the class of a row, for answers in free text "
            "(chooseBy: Class). Default: the answer is the class. Example: topic.",
        ),
    ] = None
    seed: Annotated[
        int,
        Field(
            ge=0,
            le=2**31 - 1,
            description="Seed of what is left to chance: the first row of Diversity, the row of a class of "
            "Class. Default: 42.",
        ),
    ] = 42
