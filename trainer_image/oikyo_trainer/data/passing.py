"""The texts of rows go by once, piece by piece, for all that look at them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from .spool import Index, Mask, Rows, Spool
from .texts import Found, Texts, of_table
from .threads import in_order


class Look(Protocol):
    """One who looks at texts."""

    def see(self, piece: Index, texts: Texts) -> Any:
        """What the texts of the rows `piece` show; on any thread."""

    def take(self, seen: Any) -> Iterable[Found]:
        """What is to be told of what `see` has made of each piece, in their order."""

    def close(self) -> Iterable[Found]:
        """What is to be told once every piece has been taken in."""


def go_by(spool: Spool, rows: Rows, kept: Mask, looks: Sequence[Look]) -> Iterator[list[Found]]:
    """What each of `looks` tells of the rows of `kept`, piece by piece."""

    def see(part: tuple[Index, Any]) -> list[Any]:  # pyarrow is untyped
        piece, table = part
        texts = of_table(table)
        return [look.see(piece, texts) for look in looks]

    for every in in_order(see, spool.gather(kept, rows.lengths)):
        yield [one for look, seen in zip(looks, every, strict=True) for one in look.take(seen)]
    yield [one for look in looks for one in look.close()]
