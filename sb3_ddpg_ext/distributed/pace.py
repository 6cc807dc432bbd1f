"""How many updates belong to the transitions that have come."""


class Pace:
    """
    Keeps learning and collection in step: ``ratio`` updates for each transition, some of which may be made in advance.

    :param ratio: updates per transition; None for what ``gradient_steps`` says of each rollout
    :param ahead: updates that may be made before their transitions have come
    """

    BURST = 16  # updates in advance between two looks at what has come

    def __init__(self, ratio: float | None, ahead: int = 0):
        self.ratio, self.ahead = ratio, ahead
        self._owed = 0.0  # updates; below 0 where they were made in advance

    @property
    def has_credit(self) -> bool:
        """Whether an update may be made before the next transition has come."""
        return self._owed + self.ahead >= 1

    def updates(self, n_transitions: int, gradient_steps: int) -> int:
        """
        :param n_transitions: that have come since the last time
        :param gradient_steps: of the model, -1 for as many as transitions
        :return: how many updates are to be made now
        """
        if self.ratio is None:
            return gradient_steps if gradient_steps >= 0 else n_transitions
        self._owed += self.ratio * n_transitions
        n = int(self._owed) if n_transitions else min(int(self._owed + self.ahead), self.BURST)
        n = max(n, 0)
        self._owed -= n
        return n
