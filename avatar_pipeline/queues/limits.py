"""What a queue takes, whichever it is: the limits of Amazon SQS, so that what works on one works on the other.

Source: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta

from avatar_pipeline.errors import InvalidInput

LARGEST_BODY = 256 * 1024
"""Bytes of UTF-8. SQS queues take up to 1 MiB where they are set so; this is what every queue takes."""
LONGEST_DELAY = timedelta(minutes=15)
LONGEST_VISIBILITY = timedelta(hours=12)
LONGEST_WAIT = timedelta(seconds=20)
LONGEST_REASON = 1000

# SQS takes what XML 1.0 takes: https://www.w3.org/TR/REC-xml/#charsets
_NOT_ALLOWED = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def require_bodies(queue: str, bodies: Sequence[str]) -> None:
    """Check messages before any of them is sent.

    Raises:
        InvalidInput: one is empty, larger than 256 KiB in UTF-8, or holds a character that SQS refuses.
    """
    for number, body in enumerate(bodies, start=1):
        which = f"Message {number} of {len(bodies)} for queue {queue}"
        if not body:
            raise InvalidInput(f"{which} is empty.", remedy="Send a request as JSON.")
        if bad := _NOT_ALLOWED.search(body):
            raise InvalidInput(
                f"{which} holds the character U+{ord(bad.group()):04X} at position {bad.start()}.",
                remedy="Write it as a JSON escape, or leave it out.",
            )
        if (size := len(body.encode())) > LARGEST_BODY:
            raise InvalidInput(
                f"{which} has {size:,} bytes; the limit is {LARGEST_BODY:,}.",
                remedy="Send a shorter text; put media in the store and send its URI.",
            )


def require_between(what: str, value: timedelta, longest: timedelta) -> None:
    """Check a span of time.

    Raises:
        InvalidInput: it is negative or longer than `longest`.
    """
    if not timedelta(0) <= value <= longest:
        raise InvalidInput(
            f"The {what} of {value.total_seconds():g} s is not between 0 and {longest.total_seconds():g} s.",
            remedy="Give a span within the limits of Amazon SQS.",
        )


def require_count(limit: int) -> None:
    """Check how many messages are asked for.

    Raises:
        InvalidInput: fewer than one.
    """
    if limit < 1:
        raise InvalidInput(f"{limit} messages were asked for.", remedy="Ask for 1 or more.")


def clean_reason(reason: str) -> str:
    """Return a reason that every queue can carry: no characters that SQS refuses, at most 1,000 of them."""
    return _NOT_ALLOWED.sub("?", reason)[:LONGEST_REASON] or "no reason given"
