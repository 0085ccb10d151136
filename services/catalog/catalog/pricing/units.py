"""What usage is counted in, and how one unit converts to another, exactly."""

from fractions import Fraction

from chassis.errors import InvalidArgument

# What is measured → how many of the smallest unit each is. A gigabyte has 1,024 megabytes, as operators bill it.
_TABLE = {
    "time": {"s": 1, "min": 60, "h": 3_600},
    "data": {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40},
    # What is counted one by one, whatever it is called.
    "number": {"": 1},
}
_SPELLINGS = {
    "s": "s sec secs second seconds",
    "min": "min mins minute minutes",
    "h": "h hour hours",
    "B": "b byte bytes",
    "KB": "kb kib kilobyte kilobytes",
    "MB": "mb mib megabyte megabytes",
    "GB": "gb gib gigabyte gigabytes",
    "TB": "tb tib terabyte terabytes",
    "": "unit units each piece pieces event events sms mms message messages call calls session sessions",
}
_NAMES = {"": "", **{spelling: name for name, spellings in _SPELLINGS.items() for spelling in spellings.split()}}
_UNITS = {name: (kind, Fraction(size)) for kind, sizes in _TABLE.items() for name, size in sizes.items()}
SECOND = "s"


def unit(name: str) -> str:
    """A unit's regular name; an unknown one stands for itself, in small letters."""
    letters = name.strip().lower()
    return _NAMES.get(letters, letters)


def factor(of: str, to: str) -> Fraction:
    """How many of `to` one of `of` is: 1/60 from seconds to minutes.

    Raises InvalidArgument INCOMPATIBLE_UNITS for what measures different things.
    """
    source, target = unit(of), unit(to)
    if source == target:
        return Fraction(1)
    if source in _UNITS and target in _UNITS and _UNITS[source][0] == _UNITS[target][0]:
        return _UNITS[source][1] / _UNITS[target][1]
    raise InvalidArgument("INCOMPATIBLE_UNITS", f"{of or 'a number'} can't be counted in {to or 'a number'}")


def seconds(name: str) -> Fraction | None:
    """How many seconds the unit lasts; None for one that doesn't measure time."""
    kind, size = _UNITS.get(unit(name), ("", Fraction(0)))
    return size if kind == "time" else None
