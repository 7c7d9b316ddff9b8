"""Which model, version and signature a request is for."""

from dataclasses import dataclass

__all__ = ["DEFAULT_SIGNATURE", "ModelSpec"]

DEFAULT_SIGNATURE = "serving_default"
"""Signature of a request that names none."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The address of a computation.

    Attributes:
        name: Name of the model.
        version: Version number, >= 0; None for the newest, or for the one that `label` names.
        label: Label of a version; None where a number, or nothing, is asked for.
        signature: Name of the signature; empty for the default one.
    """

    name: str
    version: int | None = None
    label: str | None = None
    signature: str = ""

    @property
    def signature_name(self) -> str:
        """The signature asked for, or the default one's name."""
        return self.signature or DEFAULT_SIGNATURE
