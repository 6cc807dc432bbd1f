"""Strings, dicts and objects from a YAML file, a command line or Python, turned into objects. The only parser."""

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Generic, TypeVar

Made = TypeVar("Made")
Make = TypeVar("Make", bound=Callable[..., Any])
Reader = Callable[[str, Any], Any]  # from the name of an argument and its value to what the class gets


def number_of(spec: Any) -> float | None:
    """
    The number that a string is, as YAML makes one of 1e-3; but not Python's 1_000, which reads like two words.

    :param spec: a string; None comes back for anything else
    """
    try:
        return float(spec) if isinstance(spec, str) and "_" not in spec else None
    except ValueError:
        return None


def read_numbers(text: str | None) -> list[float]:
    """
    :param text: numbers with ``_`` between them; None for no number
    :raises ValueError: if a part is not a number
    """
    return [] if text is None else [float(word) for word in text.split("_")]


@contextmanager
def naming_given(shown: str) -> Iterator[None]:
    """
    A context whose errors are a ``TypeError`` or a ``ValueError`` that says what was given.

    :param shown: the argument and its value
    """
    try:
        yield
    except TypeError as error:
        raise TypeError(f"{shown}: {error}") from None
    except Exception as error:
        raise ValueError(f"{shown}: {error}") from None


def nearest_names(given: Any, names: Iterable[str]) -> list[str]:
    """
    :param given: a name that is unknown
    :param names: the names that there are
    :return: the one that is written most alike; empty if none is
    """
    found = {name.lower(): name for name in names}
    return [found[near] for near in difflib.get_close_matches(str(given).lower(), found, n=1)]


def did_you_mean(given: Any, names: Iterable[str]) -> str:
    """:return: ``", did you mean 'NAME'? It"``, with what :func:`nearest_names` finds; ``"; it"`` if there is none"""
    return next((f", did you mean {name!r}? It" for name in nearest_names(given, names)), "; it")


class Kinds(Mapping[str, Callable[..., Made]], Generic[Made]):
    """
    A family of objects, each kind of which has a name.

    An object of the family is made from ``"KIND"``, from ``"KIND_NUMBER"`` where the kind has arguments, or from
    ``dict(kind="KIND", ...)``. An object that a user has made is taken as it is. A new kind is one line beside its class::

        @NOISES.register("normal")
        class GaussianNoise(AdditiveNoise): ...

    :param forms: what may be given, in words, for errors
    :param accepts: whether something already is an object of the family
    :param read: from what follows ``KIND_`` in a string, or None, to the first arguments of the kind
    :param readers: for arguments by their name, what makes their value of a string or a dict
    :param by_the_library: arguments that the library gives and a user does not
    :param reserved: strings that mean something else, and are no names
    :param synonyms: what others call a kind, from their word to ours; only for the guess in an error
    """

    def __init__(
        self,
        forms: str,
        accepts: Callable[[Any], bool],
        read: Callable[[str | None], list[Any]] = read_numbers,
        readers: Mapping[str, Reader] | None = None,
        by_the_library: tuple[str, ...] = (),
        reserved: tuple[str, ...] = (),
        synonyms: Mapping[str, str] | None = None,
    ):
        self._forms, self.accepts, self._read = forms, accepts, read
        self._readers, self._by_the_library = dict(readers or {}), by_the_library
        self._reserved, self._synonyms = reserved, dict(synonyms or {})
        self._kinds: dict[str, Callable[..., Made]] = {}

    def register(self, kind: str, **fixed: Any) -> Callable[[Make], Make]:
        """
        A decorator that gives a class, or a function that makes an object, the name ``kind``.

        :param kind: the name in strings and dicts
        :param fixed: arguments that belong to the name
        :raises ValueError: if the name is taken; :meth:`unregister` makes it free
        """
        if kind in self or kind in self._reserved:
            raise ValueError(f"kind={kind!r} must be a name that is not taken; taken are {[*self, *self._reserved]}")

        def named(make: Make) -> Make:
            self._kinds[kind] = partial(make, **fixed) if fixed else make
            return make

        return named

    def unregister(self, kind: str) -> Callable[..., Made]:
        """
        Take a name away.

        :param kind: the name
        :return: what it stood for
        :raises ValueError: if there is no such name
        """
        if kind not in self:
            raise ValueError(f"kind={kind!r} must be one of {list(self)}")
        return self._kinds.pop(kind)

    def __getitem__(self, kind: str) -> Callable[..., Made]:
        return self._kinds[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def __len__(self) -> int:
        return len(self._kinds)

    @property
    def forms(self) -> str:
        """What may be given, in words."""
        return f"{self._forms}; the kinds are {', '.join(self)}"

    def all_arguments_of(self, kind: str) -> list[str]:
        """:return: the names of what this kind takes"""
        return list(inspect.signature(self[kind]).parameters)

    def arguments_of(self, kind: str) -> list[str]:
        """:return: the names of what a user may give to this kind"""
        return [name for name in self.all_arguments_of(kind) if name not in self._by_the_library]

    def kind_of(self, spec: Any) -> str | None:
        """
        :param spec: what a user has given
        :return: the name of its kind; None for an object, or where there is no such kind
        """
        kind = spec.get("kind") if isinstance(spec, dict) else spec
        found = [name for name in self if isinstance(kind, str) and f"{kind}_".startswith(f"{name}_")]
        return max(found, key=len, default=None)

    def name_of(self, made: Any) -> str:
        """:return: the name of an object's class in this family; where it has none, that in Python"""
        return next((kind for kind, make in self._kinds.items() if make is type(made)), type(made).__name__)

    def kind_and_arguments(self, name: str, spec: Any) -> tuple[str, dict[str, Any]]:
        """
        For a family whose objects are made later.

        :param name: the argument that ``spec`` was given for, for errors
        :param spec: the name of a kind, or a dict
        :return: the kind, and the arguments in the dict
        :raises ValueError: for an unknown kind or argument
        :raises TypeError: for anything but a string or a dict
        """
        if isinstance(spec, dict):
            return self._checked(name, f"{name}={spec!r}", spec)
        if not isinstance(spec, str):
            raise TypeError(f"{name}={spec!r} must be {self.forms}")
        self._check_kind(f"{name}={spec!r}", spec)
        return spec, {}

    def make(self, name: str, spec: Any, whole: Any = None, **given: Any) -> Made:
        """
        :param name: the argument that ``spec`` was given for, for errors
        :param spec: a string, a dict or an object
        :param whole: what ``spec`` is a part of, for errors; None for itself
        :param given: arguments by the library; a kind that does not name one of them does without
        :raises ValueError: for an unknown kind or argument, and for a value that the kind refuses
        :raises TypeError: for something else, and for an argument of the wrong type
        """
        shown = f"{name}={(spec if whole is None else whole)!r}"
        if self.accepts(spec):
            return spec
        if isinstance(spec, dict):
            return self._of_dict(name, shown, spec, given)
        if isinstance(spec, str):
            return self._of_string(shown, spec, given)
        raise TypeError(f"{shown}{'' if whole is None else f': {spec!r}'} must be {self.forms}")

    def _checked(self, name: str, shown: str, spec: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        arguments = dict(spec)
        kind = arguments.pop("kind", None)
        self._check_kind(shown, kind)
        allowed = self.arguments_of(kind)
        if unknown := sorted(set(arguments) - set(allowed), key=str):
            guess = did_you_mean(unknown[0], allowed)
            raise ValueError(f"{shown}: {kind!r} has no argument {unknown[0]!r}{guess} has {allowed}")
        for key, read in self._readers.items():
            if isinstance(arguments.get(key), str | dict):
                arguments[key] = read(f"{name}: {key}", arguments[key])
        return kind, arguments

    def _of_dict(self, name: str, shown: str, spec: dict[str, Any], given: dict[str, Any]) -> Made:
        kind, arguments = self._checked(name, shown, spec)
        with naming_given(shown):
            return self._called(kind, [], arguments, given)

    def _of_string(self, shown: str, spec: str, given: dict[str, Any]) -> Made:
        spec = spec.strip()
        kind = self.kind_of(spec) or spec.partition("_")[0]
        self._check_kind(shown, kind, self._guess(spec, self._example))
        try:
            return self._called(kind, self._read(None if spec == kind else spec[len(kind) + 1 :]), {}, given)
        except Exception as error:
            example = self._example(kind)
            if spec == kind and example != kind:
                raise ValueError(f"{shown}: {kind!r} needs a value behind it, such as {example!r}") from None
            such = "" if example == kind else f", as {example!r} can"
            raise ValueError(f"{shown}: {spec!r} cannot be read{such} ({error})") from None

    def _check_kind(self, shown: str, kind: Any, guess: str | None = None) -> None:
        if not (isinstance(kind, str) and kind in self):
            names = ", ".join([*self._reserved, *self])
            guess = self._guess(str(kind), lambda kind, rest: kind) if guess is None else guess
            raise ValueError(f"{shown}: the kind {kind!r} is unknown{guess} kinds are {names}")

    def _guess(self, spec: str, example: Callable[[str, str], str]) -> str:
        """
        :param spec: a string of an unknown kind, which is looked for by its first word and as a whole
        :param example: from the kind that is nearest, and what follows, to what the user may have meant
        :return: ``", did you mean 'normal_0.1'? The"``, or ``"; the"`` where nothing is near
        """
        names = {name: name for name in (*self, *self._reserved)} | self._synonyms
        text = spec.strip().lower()
        word = re.split("[^a-z-]", text, maxsplit=1)[0]
        number = re.search(r"[\d.].*", text)
        for part, behind in ((word, text[len(word) :].lstrip("_ ")), (text, number[0] if number else "")):
            if near := nearest_names(part, names):
                return f", did you mean {example(names[near[0]], behind)!r}? The"
        return "; the"

    def _example(self, kind: str, rest: str = "") -> str:
        """A string that an object of this kind can be made from, with ``rest`` behind the kind if that can be read."""
        for text in (f"{kind}_{rest}" if rest else kind, f"{kind}_0.1"):
            with suppress(Exception):
                self._called(kind, self._read(None if text == kind else text[len(kind) + 1 :]), {}, {})
                return text
        return kind

    def _called(self, kind: str, positional: list[Any], arguments: dict[str, Any], given: dict[str, Any]) -> Made:
        named = self.all_arguments_of(kind)
        return self[kind](*positional, **arguments, **{key: value for key, value in given.items() if key in named})
