"""Keep a report up to date while its sweep runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from explorer.errors import InvalidInput
from explorer.ledger import Ledger


def follow(ledgers: Sequence[Ledger], write: Callable[[int | None], str], seconds: int, say: Callable[[str], None]) -> None:
    """Write the report whenever a ledger has new records, until Ctrl-C or SIGTERM. The last page does not check for newer ones.

    Storage that cannot be read for a while is reported, and read again.

    Args:
        ledgers: the ledgers to follow.
        write: writes the report and returns a line about it; takes the seconds between two checks of an open page, or `None`.
        seconds: time between two checks of the ledgers.
        say: prints a line.
    """
    written_counts: tuple[int, ...] | None = None
    begun = False
    try:
        while True:
            try:
                counts = tuple(ledger.count() for ledger in ledgers)
                if counts != written_counts:
                    begun = True  # a page that checks for newer ones may exist from here on
                    say(f"{time.strftime('%H:%M:%S')}  {sum(counts)} trials: {write(seconds)}")
                    written_counts = counts
            except InvalidInput as error:
                begun = written_counts is not None
                if not (error.field == "storage" or (not begun and "no finished trial" in str(error))):
                    raise
                say(f"{time.strftime('%H:%M:%S')}  {error if error.field == 'storage' else 'no finished trial yet'}")
            time.sleep(seconds)
    except (KeyboardInterrupt, SystemExit) as end:  # SIGTERM exits
        if begun:
            say(write(None))
        if isinstance(end, SystemExit):
            raise
