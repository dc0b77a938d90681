"""Which blocks of a pool are free, and how many hold on to each."""

from __future__ import annotations

from lamina.lm.errors import CapacityError


class Blocks:
    """Hands out the numbers of blocks, and counts who uses them.

    Parameters
    ----------
    limit : int
        How many there may be.

    Examples
    --------
    >>> blocks = Blocks(2)
    >>> blocks.take(), blocks.take(), blocks.free
    (0, 1, 0)
    >>> blocks.drop(0)
    >>> blocks.free
    1
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._spare: list[int] = []
        self._users: list[int] = []

    @property
    def used(self) -> int:
        """Blocks that somebody uses."""
        return len(self._users) - len(self._spare)

    @property
    def free(self) -> int:
        """Blocks that can be taken."""
        return self.limit - self.used

    @property
    def high(self) -> int:
        """Blocks that were ever in use at once: numbers lie below."""
        return len(self._users)

    def take(self) -> int:
        """Return a free block, of which the caller is the only user.

        Raises
        ------
        CapacityError
            There is none.
        """
        if self._spare:
            block = self._spare.pop()
        elif len(self._users) < self.limit:
            block = len(self._users)
            self._users.append(0)
        else:
            raise CapacityError(f"all {self.limit} blocks of the key-value pool are in use")
        self._users[block] = 1
        return block

    def share(self, block: int) -> None:
        """Count one more user of ``block``."""
        self._users[block] += 1

    def drop(self, block: int) -> None:
        """Count one user less; without any the block is free."""
        self._users[block] -= 1
        if self._users[block] == 0:
            self._spare.append(block)
