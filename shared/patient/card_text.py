"""What the author of a disease says of its data and of what the model is for: Spanish, for the model card."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class About:
    """Sentences that no figure can give. Of what is left empty the card says that nobody declared it."""

    purpose: str = ""
    """What an answer is for, who reads it, and when."""
    not_for: tuple[str, ...] = ()
    """What it must not be used for."""
    source: str = ""
    """Where the data come from, and how to cite them."""
    licence: str = ""
    population: str = ""
    """Which patients, of which place and care."""
    exclusions: str = ""
    """Which rows are left out, and why."""
    outcome: str = ""
    """How, and by whom, the diagnosis of a case was made."""
    units: str = ""
    """How sure the units and reference ranges are."""
    rule: str = ""
    """The rule of `Patient.by_rule`, if there is one."""
    limits: tuple[str, ...] = ()
    """What a reader must keep in mind."""
    ethics: str = ""


UNDECLARED = About()
