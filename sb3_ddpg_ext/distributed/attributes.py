"""What a user has set in environments, for those that are made later."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import cloudpickle


class Setting(NamedTuple):
    """
    :param name: of an attribute
    :param value: that it is to have
    :param column: of the environment, among those of a worker
    """

    name: str
    value: Any
    column: int


class Attributes:
    """What ``set_attr`` has said of each environment. A worker that starts, or starts anew, is told it."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, int], Any] = {}

    def set(self, name: str, value: Any, indices: Iterable[int]) -> None:
        """
        :param name: of the attribute
        :param value: of it
        :param indices: of the environments, among those of all workers
        :raises TypeError: if the value cannot be sent to workers
        """
        try:
            cloudpickle.dumps(value)
        except Exception as error:
            raise TypeError(f"set_attr: {name}={value!r} must be one that can be pickled ({error})") from error
        for index in indices:
            self._values.pop((name, index), None)  # so that the order is that of the last calls
            self._values[name, index] = value

    def seen(self, name: str, indices: Iterable[int], otherwise: Any) -> list[Any]:
        """:return: the attribute of each of these environments; ``otherwise`` where nobody has set it"""
        return [self._values.get((name, index), otherwise) for index in indices]

    def of(self, first: int, n: int) -> list[Setting]:
        """:return: what n environments of a worker are to be told, of which the first has the number ``first``"""
        return [
            Setting(name, value, index - first) for (name, index), value in self._values.items() if first <= index < first + n
        ]
