"""The texts of the rows that stay go by once, piece by piece, for all that look at them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from .spool import Index, Mask, Rows, Spool
from .texts import Texts, of_table
from .threads import in_order


class Look(Protocol):
    """One who looks at texts."""

    def see(self, piece: Index, texts: Texts) -> Any:
        """What the texts of the rows `piece` show; on any thread."""

    def take(self, seen: Any) -> None:
        """Take in what `see` has made of each piece, in their order."""


def go_by(spool: Spool, rows: Rows, kept: Mask, looks: Sequence[Look]) -> None:
    """Show every row of `kept` to each of `looks`."""

    def see(part: tuple[Index, Any]) -> list[Any]:  # pyarrow is untyped
        piece, table = part
        texts = of_table(table)
        return [look.see(piece, texts) for look in looks]

    for every in in_order(see, spool.gather(kept, rows.lengths)):
        for look, seen in zip(looks, every, strict=True):
            look.take(seen)
