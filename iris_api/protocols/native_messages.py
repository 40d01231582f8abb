"""The messages of the native protocol, as JSON Schema documents them."""

import math
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from iris_api.schema import RESERVED, Column, Label, Schema


class Predictions(BaseModel):
    """The predicted label of each row, in the order of the rows; of a regressor, a number."""

    predictions: list[Label]


class Probabilities(BaseModel):
    """The probability of each class for each row: columns as in `classes`, rows as sent."""

    classes: list[Label]
    probabilities: list[list[float]]


def predictions(schema: Schema | None) -> dict[str, Any]:
    """Return the JSON Schema of predictions."""
    found = Predictions.model_json_schema()
    if schema and schema.task == "regressor":
        found["properties"]["predictions"]["items"] = {"type": "number"}
    return found


def row(schema: Schema) -> dict[str, Any]:
    """Return the JSON Schema of one row by the names of its columns."""
    return {
        "title": "Row",
        "description": "One row, its cells by the names of their columns.",
        "type": "object",
        "properties": cells(schema),
        "required": [column.plain_name for column in schema.columns if column.required],
        "additionalProperties": False,
    }


def instances(schema: Schema) -> dict[str, Any]:
    """Return the JSON Schema of many rows."""
    required = [place for place, column in enumerate(schema.columns, 1) if column.required]
    array = {
        "type": "array",
        "prefixItems": list(cells(schema).values()),
        "minItems": max(required, default=0),
        "maxItems": len(schema.columns),
    }
    rows = {
        "type": "array",
        "items": {"oneOf": [array, {"$ref": "#/components/schemas/Row"}]},
        "minItems": 1,
    }
    return {
        "title": "Instances",
        "description": "Many rows, each an array in the order of the columns or an object.",
        "type": "object",
        "properties": {RESERVED: rows},
        "required": [RESERVED],
        "additionalProperties": False,
    }


def cells(schema: Schema) -> dict[str, Any]:
    """Return the JSON Schema of each column by its plain name."""
    return {column.plain_name: _cell(column) for column in schema.columns}


def examples(schema: Schema, rows: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Return a body of each form, made of rows in the order of the schema's columns."""
    named = [named_row(schema, row) for row in rows]
    return {
        "row": {"summary": "One row by the names of its columns.", "value": named[0]},
        "instances": {
            "summary": "Many rows.",
            "value": {RESERVED: [list(row.values()) for row in named]},
        },
    }


def named_row(schema: Schema, row: Sequence[float]) -> dict[str, Any]:
    """Return a row in the order of the schema's columns as a request has it."""
    cells = zip(schema.columns, row, strict=True)
    return {column.plain_name: _value(column, cell) for column, cell in cells}


def _cell(column: Column) -> dict[str, Any]:
    kinds = [column.type, *([] if column.required else ["null"])]
    found: dict[str, Any] = {"type": kinds if len(kinds) > 1 else column.type}
    if column.type in {"number", "integer"}:
        low, high = column.domain
        found |= {"minimum": low} if math.isfinite(low) else {}
        found |= {"maximum": high} if math.isfinite(high) else {}
    if column.type == "string" and not column.unknown_categories:
        found["enum"] = [*(column.categories or []), *([] if column.required else [None])]
    return found | ({"description": f"in {column.unit}"} if column.unit else {})


def _value(column: Column, cell: float) -> Any:
    """Return a cell as a request has it."""
    if math.isnan(cell):
        return None
    if column.type == "string":
        return (column.categories or [""])[int(cell)]
    if column.type == "boolean":
        return bool(cell)
    return int(cell) if column.type == "integer" else cell


def record(required: str, **properties: Any) -> dict[str, Any]:
    """Return the JSON Schema of an object; the names of required keys are separated by spaces."""
    return {"type": "object", "properties": properties, "required": required.split()}


def array(items: dict[str, Any], least: int = 0) -> dict[str, Any]:
    """Return the JSON Schema of an array with a least number of items."""
    return {"type": "array", "items": items, "minItems": least}
