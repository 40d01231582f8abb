"""Model URIs: the four ways to name a version of a registered model."""

import re
from dataclasses import dataclass

from iris_api.errors import IrisError, one_line

STAGES = {stage.lower(): stage for stage in ("None", "Staging", "Production", "Archived")}


class ModelURIError(IrisError):
    """A text that is no model URI."""


@dataclass(frozen=True)
class ModelURI:
    """`models:/NAME/VERSION`, `models:/NAME/STAGE`, `models:/NAME/latest` or `models:/NAME@ALIAS`.

    At most one of `version`, `stage` and `alias` is set; without any, the latest version is meant.
    """

    text: str
    name: str
    version: int | None = None
    stage: str | None = None
    alias: str | None = None

    @classmethod
    def parse(cls, text: str) -> "ModelURI":
        """Parse a model URI, or raise a ModelURIError."""
        if text.isprintable() and re.match("models:/m-[^/@]+$|runs:/", text):
            raise ModelURIError(
                f"{one_line(text)!r} is a model without a name or version in the registry; "
                f"register it, mlflow.register_model({one_line(text)!r}, NAME), and import "
                "models:/NAME/VERSION"
            )
        match = re.fullmatch(r"models:/([^/@:]+)(?:/([^/@]+)|@([^/@]+))", text)
        # A lone surrogate, for one, can be neither sent nor printed.
        if not match or not text.isprintable():
            raise ModelURIError(
                f"{one_line(text)!r} is not a model URI; write models:/NAME/VERSION, "
                "models:/NAME/STAGE, models:/NAME/latest or models:/NAME@ALIAS"
            )
        name, selector, alias = match.groups()
        if alias:
            return cls(text, name, alias=alias)
        if selector.lower() == "latest":
            return cls(text, name)
        if re.fullmatch("[0-9]{1,18}", selector):  # fits in the 64 bits of the registry
            return cls(text, name, version=int(selector))
        if stage := STAGES.get(selector.lower()):
            return cls(text, name, stage=stage)
        raise ModelURIError(
            f"{one_line(selector, 80)!r} is neither a version nor a stage; the stages are "
            f"{', '.join(STAGES.values())}, and an alias is written models:/{name}@ALIAS"
        )
