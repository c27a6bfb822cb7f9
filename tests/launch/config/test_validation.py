"""Pydantic's errors in the operator's words, on a schema of its own."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from launch.config.document import parse
from launch.config.validation import validation_problems

KEYS = "the keys size, shape, many, row, name"


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Circle(Part):
    kind: Literal["circle"]
    radius: float = Field(gt=0)


class Square(Part):
    kind: Literal["square"]
    side: float = 1.0


class Picture(Part):
    size: int = 1
    shape: Annotated[Circle | Square, Field(discriminator="kind")] | None = None
    many: Annotated[int, Field(ge=1)] | dict[Annotated[str, Field(pattern="^[a-z]+$")], Circle] = 1
    row: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _together(self) -> Any:
        if self.size == 13:
            raise ValueError("13 is not a size")
        return self


def found(text: Any) -> Any:
    document = parse(text, "c.yaml")
    with pytest.raises(ValidationError) as caught:
        Picture.model_validate_json(json.dumps(document.values), strict=True)
    return [
        str(problem)
        for problem in validation_problems(caught.value, Picture, document.values, document, beside=("name",))
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("size: '3'", "c.yaml:1: size: expected a valid integer, got '3'."),
        ("size: true", "c.yaml:1: size: expected a valid integer, got True."),
        ("\nsiez: 3", f"c.yaml:2: siez: expected one of {KEYS}, got the unknown key 'siez'. Did you mean size?"),
        ("size: 13", "c.yaml:1: 13 is not a size."),
        ("shape:\n  kind: circle", "c.yaml:1: shape.radius: expected this key, got nothing."),
        (
            "shape:\n  kind: circle\n  radius: 0",
            "c.yaml:3: shape.radius: expected greater than 0, got 0.",
        ),
        ("shape: {side: 2}", "c.yaml:1: shape: expected a mapping with the key 'kind', got {'side': 2}."),
        ("many: 0", "c.yaml:1: many: expected greater than or equal to 1 or a mapping of keys to values, got 0."),
        (
            "many:\n  a: {kind: circle, radius: 1, siz: 2}",
            "c.yaml:2: many.a.siz: expected one of the keys kind, radius, got the unknown key 'siz'.",
        ),
        ("row: [1, 2, x]", "c.yaml:1: row.2: expected a valid integer, got 'x'."),
        ("row: 3", "c.yaml:1: row: expected a list, got 3."),
        (
            "shape: {kind: circel}",
            "c.yaml:1: shape.kind: expected one of 'circle', 'square', got 'circel'. Did you mean circle?",
        ),
    ],
)
def test_a_fault_in_the_operators_words(text: Any, said: Any) -> None:
    assert found(text) == [said]


def test_every_fault_is_told_once() -> None:
    said = found("size: x\nmany: {B: {kind: circle, radius: 1}}\nshape: {kind: oval}")
    assert len(said) == 3
    assert [line.split(": ")[1] for line in said] == ["size", "shape.kind", "many.B"]


def test_long_values_are_cut() -> None:
    assert len(found(f"size: {'x' * 500}")[0]) < 150
