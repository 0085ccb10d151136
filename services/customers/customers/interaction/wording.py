"""What a query asks for, and what is shown of the text in which it was found. Texts are compared in small letters and
without ё, so that nothing depends on the database's own idea of letters."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from customers.interaction.numbers import Run, runs

LONGEST_QUERY = 1_000
# What a snippet has around a number, in characters.
_AROUND = 60
# Nobody writes these: they mark, in the database's answer, where a hit begins, where it ends and what is left out.
HIT, END, GAP = "\x02", "\x03", "\x04"
# PostgreSQL takes what stands in such brackets for a tag, in which nothing is found: also `Aida <aida@example.kg>`.
_NO_WORDS = frozenset(f"\x00{HIT}{END}{GAP}<>&")


def folded(text: str) -> str:
    """The text in small letters, character by character: every place in it is that of the same one in the text."""
    return "".join(map(_fold, text))


def _fold(character: str) -> str:
    if character in _NO_WORDS:
        return " "
    small = character.lower()
    if len(small) != 1:
        return character
    return "е" if small == "ё" else small


@dataclass(frozen=True, slots=True)
class Wanted:
    """A query: what is looked for as words; or, where numbers are in it, as the other words and those numbers."""

    words: str
    other_words: str = ""
    # The beginnings of index words, all of which must be there; a number that may be read in two ways has both.
    numbers: tuple[frozenset[str], ...] = ()

    @property
    def number_query(self) -> str:
        """The numbers as PostgreSQL's tsquery; empty: there are none."""
        return " & ".join(
            "(" + " | ".join(f"{beginning}:*" for beginning in sorted(either)) + ")" for either in self.numbers
        )


def wanted(query: str, region: str) -> Wanted:
    """What a query asks for. A number after a minus is one that mustn't be there, which is a matter of words."""
    text = folded(query)
    places: list[tuple[int, int, set[str]]] = []
    for run in runs(text, region):
        if text[max(0, run.start - 1) : run.start] == "-":
            continue
        if places and run.start < places[-1][1]:
            start, end, either = places[-1]
            places[-1] = (start, max(end, run.end), either | {run.tail})
        else:
            places.append((run.start, run.end, {run.tail}))
    others, last = [], 0
    for start, end, _ in places:
        others.append(text[last:start])
        last = end
    return Wanted(
        words=text,
        other_words=" ".join([*others, text[last:]]) if places else "",
        numbers=tuple(frozenset(either) for _, _, either in places),
    )


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a snippet."""

    text: str
    hit: bool = False


def snippet(text: str, headline: str, query: Wanted, region: str) -> list[Part]:
    """What is shown of a text: the pieces around the hits that the database has marked in the folded one, in the
    letters of the text itself; where it has marked none, or nothing but a number was looked for, what is around that
    number, which is whole then."""
    if HIT in headline and query.other_words.strip():
        return list(_marked(text, headline))
    beginnings = tuple(beginning for either in query.numbers for beginning in either)
    for run in runs(text, region) if beginnings else ():
        if run.tail.startswith(beginnings):
            return list(_around(text, run))
    if HIT in headline:
        return list(_marked(text, headline))
    return [Part(_cut(text[: 2 * _AROUND], text))] if text else []


def _marked(text: str, headline: str) -> Iterator[Part]:
    where = 0
    small = folded(text)
    for number, fragment in enumerate(headline.split(GAP)):
        plain = fragment.replace(HIT, "").replace(END, "")
        found = small.find(plain, where)
        # Else the text has changed since: what the database says is as good.
        original = text[found : found + len(plain)] if found >= 0 else plain
        where = max(found, where)
        if number:
            yield Part(" … ")
        taken = 0
        for piece in fragment.split(HIT):
            hit, ended, rest = piece.partition(END)
            for part, is_hit in ((hit, bool(ended)), (rest, False)):
                if part:
                    yield Part(original[taken : taken + len(part)], is_hit)
                    taken += len(part)


def _around(text: str, run: Run) -> Sequence[Part]:
    before, after = max(0, run.start - _AROUND), run.end + _AROUND
    parts = (
        Part(("… " if before else "") + text[before : run.start]),
        Part(text[run.start : run.end], hit=True),
        Part(text[run.end : after] + (" …" if after < len(text) else "")),
    )
    return [part for part in parts if part.text]


def _cut(beginning: str, text: str) -> str:
    return beginning if len(beginning) == len(text) else f"{beginning} …"
