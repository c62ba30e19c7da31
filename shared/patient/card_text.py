"""Texts of the model card that the author of a disease writes, in Spanish: the data and the purpose of the model."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class About:
    """Texts that cannot be computed. For an empty text, the card states that it is not declared."""

    purpose: str = ""
    """The purpose of an answer, its reader, and when it is read."""
    not_for: tuple[str, ...] = ()
    """Uses that are excluded."""
    source: str = ""
    """The source of the data, and how to cite them."""
    licence: str = ""
    population: str = ""
    """The patients: place, time and kind of care."""
    exclusions: str = ""
    """The rows that are left out, and why."""
    outcome: str = ""
    """How the diagnosis of a case was made, and by whom."""
    units: str = ""
    """How certain the units and reference ranges are."""
    rule: str = ""
    """The rule of `Patient.by_rule`, if there is one."""
    limits: tuple[str, ...] = ()
    """Limitations that a reader must know."""
    ethics: str = ""


UNDECLARED = About()
