"""Why points have moved, in the customer's language. Pure.

Each entry has words: those of its reason, else what its kind means; and the name of the rule that earned the points,
which whoever made the rule has written for his customers.
"""

import re
from collections.abc import Mapping

from chassis.errors import InvalidArgument, Violation
from customers.loyalty.entries import EntryKind

_KINDS: Mapping[EntryKind, tuple[str, str]] = {
    EntryKind.EARN: ("Points earned", "Начислены баллы"),
    EntryKind.ACTIVATE: ("Points can be spent now", "Баллы доступны"),
    EntryKind.RESERVE: ("Points set aside for a purchase", "Баллы отложены для покупки"),
    EntryKind.CONFIRM: ("Points spent", "Баллы потрачены"),
    EntryKind.RELEASE: ("Points set aside are back", "Отложенные баллы возвращены"),
    EntryKind.EXPIRE: ("Points have expired", "Срок баллов истёк"),
    EntryKind.REFUND: ("Points refunded", "Потраченные баллы возвращены"),
    EntryKind.REVERSE: ("Earned points taken back", "Начисленные баллы отозваны"),
    EntryKind.CLAIM: ("Points owed are paid back", "Погашена задолженность по баллам"),
    EntryKind.ADJUST: ("Correction by an employee", "Исправление сотрудником"),
}
_REASONS: Mapping[str, tuple[str, str]] = {
    "RESERVATION_EXPIRED": ("No purchase was made in time: points are back", "Покупка не завершена: баллы возвращены"),
    "LAPSED": ("What the points waited for didn't happen", "Условие для баллов не выполнено в срок"),
    "OPENING_BALANCE": ("Points brought from elsewhere", "Перенесённые баллы"),
    "BALANCE_CLOSED": ("The balance was closed", "Баланс закрыт"),
    "CORRECTION": ("Correction", "Исправление"),
    "GOODWILL": ("A gift from us", "Подарок от нас"),
}  # fmt: skip
LANGUAGES = ("en", "ru")


def place_of(language: str) -> int:
    """Which of the words are a language's (BCP 47; empty: English). Raises InvalidArgument UNSUPPORTED_LANGUAGE."""
    short = re.split("[-_]", language.lower())[0] or LANGUAGES[0]
    if short not in LANGUAGES:
        why = f"{language!r} is none of {', '.join(LANGUAGES)}"
        raise InvalidArgument("UNSUPPORTED_LANGUAGE", why, violations=[Violation("language", why)])
    return LANGUAGES.index(short)


def said(kind: EntryKind, reason: str, rule: str, place: int) -> str:
    """Why an entry was made; `rule`: the name of the rule that it is of, if any."""
    words = (_REASONS.get(reason) or _KINDS[kind])[place]
    return f"{words}: {rule}" if rule else words
