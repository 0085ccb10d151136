"""When an order is promised to be done, before anything has happened to it. Pure."""

from datetime import datetime, timedelta


def promised(begins: datetime, requested: datetime | None, lasts: timedelta | None) -> datetime | None:
    """When what begins then will be done: not before it can be, nor before it is wanted. None: nobody knows."""
    if lasts is None:
        return requested if requested is not None and requested >= begins else None
    return max(begins + lasts, requested or begins)
