"""Keep a report up to date while its sweep runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from explorer.errors import InvalidInput
from explorer.ledger import Ledger


def follow(ledgers: Sequence[Ledger], write: Callable[[int | None], str], seconds: int, say: Callable[[str], None]) -> None:
    """Write again whenever a ledger has new records, until interrupted; the last page no longer looks for a newer one.

    Args:
        ledgers: to look at.
        write: writes the report and returns a line about it; takes how often the page looks for a newer one, in seconds.
        seconds: between two looks.
        say: where lines go.
    """
    seen: tuple[int, ...] | None = None
    written = False
    try:
        while True:
            counts = tuple(ledger.count() for ledger in ledgers)
            if counts != seen:
                seen = counts
                try:
                    say(f"{time.strftime('%H:%M:%S')}  {sum(counts)} trials: {write(seconds)}")
                    written = True
                except InvalidInput as error:
                    if written or "no finished trial" not in str(error):
                        raise
                    say(f"{time.strftime('%H:%M:%S')}  no finished trial yet")
            time.sleep(seconds)
    except KeyboardInterrupt:
        if written:
            say(write(None))
