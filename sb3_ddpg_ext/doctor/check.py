"""A check, what it finds, and the list of all checks."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar

PAGE = "docs/doctor.md"  # with a section for each check, whose heading is the check's name

Look = TypeVar("Look", bound=Callable[..., str | None])


class Finding(NamedTuple):
    """
    Something that looks wrong.

    :param name: of the check
    :param symptom: the number that was seen, in words
    :param cause: why that hurts, and where it usually comes from
    :param cure: an argument or a command
    :param link: to the section of the documentation
    """

    name: str
    symptom: str
    cause: str
    cure: str
    link: str


class Evidence(Protocol):
    """What is known of a training, by name."""

    def part(self, name: str) -> Any:
        """:return: the evidence of that name; None where there is none"""


@dataclass
class Check:
    """
    One disease, and the ways to notice it.

    :param name: as in the page's heading
    :param cause: why it hurts, and where it usually comes from
    :param cure: an argument or a command
    :param looks: functions whose arguments are names of evidence, such as ``model`` or ``tried``; each gives a symptom or None
    """

    name: str
    cause: str
    cure: str
    looks: list[Callable[..., str | None]] = field(default_factory=list)

    def by(self, look: Look) -> Look:
        """Add a way to notice it; a decorator."""
        self.looks.append(look)
        return look

    def made_on(self, evidence: Evidence) -> tuple[bool, Finding | None]:
        """
        :param evidence: of which each look is given what it asks for; one whose evidence is missing is left out
        :return: whether there was enough evidence for one look at least, and what was found
        """
        could_look = False
        for look in self.looks:
            given = {name: evidence.part(name) for name in inspect.signature(look).parameters}
            if all(value is not None for value in given.values()):
                could_look = True
                if (symptom := look(**given)) is not None:
                    return True, Finding(self.name, symptom, self.cause, self.cure, f"{PAGE}#{self.name}")
        return could_look, None


CHECKS: dict[str, Check] = {}


def register(name: str, cause: str, cure: str) -> Check:
    """
    A new check in the list of all.

    :param name: of the disease
    :param cause: see :class:`Check`
    :param cure: likewise
    :raises ValueError: if the name is taken
    """
    if name in CHECKS:
        raise ValueError(f"name={name!r} must not be taken; taken are {list(CHECKS)}")
    return CHECKS.setdefault(name, Check(name, cause, cure))
