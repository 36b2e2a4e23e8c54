"""The schema of `bundle.toml`: every key, its type and its range; nothing else passes.

The classes mirror the file; `models.bundle` turns them into the frozen values that the
rest of the room uses. `docs/bundle-format.md` explains each key.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from core.uids import is_valid_uid
from models.specification import Activation, AgePolicy, Aspect, Images, Normalisation

__all__ = ["FORMAT", "Manifest"]

FORMAT = 1
"""Number of the format; a bundle of a higher one is refused by name."""

_CodeString = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9_ ]{1,16}$")]
_Text = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
_Sentence = Annotated[str, StringConstraints(min_length=1, max_length=200)]
_Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
# Relative, forward slashes, no part that begins with a dot: nothing can climb out.
_FileName = Annotated[
    str,
    StringConstraints(
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$",
        max_length=200,
    ),
]
_Probability = Annotated[float, Field(gt=0, lt=1)]


class _Table(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, str_strip_whitespace=True
    )


class _Identity(_Table):
    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{1,63}$")]
    version: Annotated[str, StringConstraints(pattern=r"^\d+\.\d+\.\d+$")]
    title: _Sentence
    manufacturer: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    licence: _Sentence
    attribution: _Text
    intended_use: _Text
    not_for: _Text


class _AppliesTo(_Table):
    modalities: Annotated[tuple[_CodeString, ...], Field(min_length=1)]
    sop_class_uids: tuple[str, ...] = ()
    body_parts: tuple[_CodeString, ...] = ()
    body_part_synonyms: dict[_CodeString, tuple[_CodeString, ...]] = {}
    views: tuple[_CodeString, ...] = ()
    age_years: tuple[float, float] | None = None
    age_policy: AgePolicy = AgePolicy.REFUSE

    @model_validator(mode="after")
    def _consistent(self) -> "_AppliesTo":
        wrong = [uid for uid in self.sop_class_uids if not is_valid_uid(uid)]
        if wrong:
            raise ValueError(f"sop_class_uids holds {wrong[0]!r}, which is no UID")
        unknown = set(self.body_part_synonyms) - set(self.body_parts)
        if unknown:
            raise ValueError(
                f"body_part_synonyms explains {sorted(unknown)}, not in body_parts"
            )
        if self.age_years and not 0 <= self.age_years[0] <= self.age_years[1] <= 150:
            raise ValueError("age_years must rise and lie within 0 and 150")
        return self


class _Input(_Table):
    rows: Annotated[int, Field(ge=8, le=4096, strict=True)]
    columns: Annotated[int, Field(ge=8, le=4096, strict=True)]
    channels: Literal[1, 3] = 1
    value_range: tuple[float, float] = (0.0, 1.0)
    resize: Literal["area"] = "area"
    aspect: Aspect
    normalisation: Normalisation
    images: Images = Images.BEST

    @model_validator(mode="after")
    def _rising(self) -> "_Input":
        if not -1e6 <= self.value_range[0] < self.value_range[1] <= 1e6:
            raise ValueError("value_range must rise and lie within -1e6 and 1e6")
        return self


class _Code(_Table):
    value: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    scheme: Annotated[str, StringConstraints(min_length=1, max_length=16)]
    meaning: Annotated[str, StringConstraints(min_length=1, max_length=64)]


class _Output(_Table):
    tracking_identifier: Annotated[
        str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    ]
    finding: _Code
    site: _Code | None = None
    activation: Activation
    temperature: Annotated[float, Field(gt=0, le=100)] = 1.0
    bias: Annotated[float, Field(ge=-100, le=100)] = 0.0
    threshold: _Probability
    uncertain_band: tuple[_Probability, _Probability] | None = None

    @model_validator(mode="after")
    def _band_holds_threshold(self) -> "_Output":
        if self.uncertain_band is not None:
            low, high = self.uncertain_band
            if not low <= self.threshold <= high or low == high:
                raise ValueError("uncertain_band must rise and hold the threshold")
        return self


class _Runtime(_Table):
    time_limit_s: Annotated[float, Field(gt=0, le=3600)]
    memory_mib: Annotated[int, Field(gt=0, le=1048576, strict=True)]


class _Scope(_Table):
    method: Literal["mahalanobis"]
    layer: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]{1,64}$")]
    picture_side: Annotated[int, Field(ge=1, le=32, strict=True)]
    limit: Annotated[float, Field(gt=0, le=1000)]
    reason: _Sentence


class _Golden(_Table):
    tolerance: Annotated[float, Field(gt=0, le=0.1)]


class Manifest(_Table):
    """The whole of `bundle.toml`."""

    format: Literal[1]
    identity: _Identity
    applies_to: _AppliesTo
    input: _Input
    outputs: Annotated[tuple[_Output, ...], Field(min_length=1, max_length=64)]
    runtime: _Runtime
    scope: _Scope | None = None
    golden: _Golden
    files: Annotated[dict[_FileName, _Sha256], Field(max_length=64)]

    @model_validator(mode="after")
    def _whole(self) -> "Manifest":
        missing = {"model.keras", "golden/cases.npz", "CARD.md"} - set(self.files)
        if missing:
            raise ValueError(f"[files] lacks {', '.join(sorted(missing))}")
        if (self.scope is None) is ("scope.npz" in self.files):
            raise ValueError("[scope] and the file scope.npz only come together")
        side = self.scope.picture_side if self.scope else 1
        if self.input.rows % side or self.input.columns % side:
            raise ValueError("scope.picture_side must divide input rows and columns")
        names = [output.tracking_identifier for output in self.outputs]
        if len(set(names)) != len(names):
            raise ValueError("two outputs share a tracking_identifier")
        return self
