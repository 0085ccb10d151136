"""What happens to an order, in the customer's language. Pure.

English, then Russian. `{name}` stands for what an item is called.
"""

import re
from collections.abc import Mapping

from chassis.errors import InvalidArgument, Violation
from orders.ordering.values import ProductOrderState
from orders.tracking.domain import PromiseReason
from orders.tracking.milestones import OrderEvent, OrderEventKind

_K, _O, _R = OrderEventKind, ProductOrderState, PromiseReason

_EVENTS: Mapping[OrderEventKind, tuple[str, str]] = {
    _K.PLACED: ("We have received your order", "Мы получили ваш заказ"),
    _K.INFORMATION_REQUIRED: ("We need something more from you", "Нам нужны от вас ещё сведения"),
    _K.INFORMATION_COMPLETE: ("We have everything that we need", "У нас есть всё необходимое"),
    _K.STARTED: ("We have begun with your order", "Мы начали выполнять заказ"),
    _K.MILESTONE: ("{name}", "{name}"),
    _K.ITEM_COMPLETED: ("{name} is ready", "{name}: готово"),
    _K.ITEM_FAILED: ("{name} couldn't be done", "{name}: выполнить не удалось"),
    _K.ITEM_CANCELLED: ("{name} has been cancelled", "{name}: отменено"),
    _K.DIFFICULTY: ("There is a difficulty; somebody is looking into it", "Возникла трудность, мы ею занимаемся"),
    _K.RESUMED: ("Your order goes on", "Выполнение заказа продолжается"),
    _K.PROMISE_MOVED: ("The promised date has changed", "Обещанный срок изменился"),
    _K.AMENDED: ("Your order has been changed", "Ваш заказ изменён"),
    _K.CANCELLATION_REQUESTED: ("We have been asked to cancel the order", "Получена просьба отменить заказ"),
    _K.CANCELLATION_REFUSED: ("The order can't be cancelled any more", "Отменить заказ уже нельзя"),
    _K.CANCELLATION_BEGUN: ("We are undoing what has been done", "Мы отменяем уже выполненное"),
    _K.CANCELLED: ("The order has been cancelled", "Заказ отменён"),
    _K.COMPLETED: ("Your order is complete", "Заказ выполнен"),
    _K.PARTLY_COMPLETED: ("A part of your order is complete", "Заказ выполнен частично"),
    _K.FAILED: ("Your order couldn't be carried out", "Заказ выполнить не удалось"),
    _K.REJECTED: ("Your order can't be accepted", "Заказ не принят"),
}
_REASONS: Mapping[PromiseReason, tuple[str, str]] = {
    _R.CUSTOMER_REQUEST: ("as you wished", "по вашей просьбе"),
    _R.WAITING_FOR_CUSTOMER: ("something from you was missing", "не хватало сведений от вас"),
    _R.AMENDMENT: ("the order has been changed", "заказ был изменён"),
    _R.TECHNICAL_DIFFICULTY: ("a technical difficulty", "техническая трудность"),
    _R.EQUIPMENT_SHORTAGE: ("equipment has to be delivered first", "ожидается поставка оборудования"),
    _R.STAFF_SHORTAGE: ("our fitters are busy", "монтажники заняты"),
    _R.THIRD_PARTY: ("another company is late", "задержка у другой организации"),
    _R.WEATHER: ("the weather", "погода"),
    _R.FASTER: ("it goes faster", "выполним раньше"),
    _R.OTHER: ("", ""),
}
_STATES: Mapping[ProductOrderState, tuple[str, str]] = {
    _O.ACKNOWLEDGED: ("Received", "Принят"),
    _O.REJECTED: ("Not accepted", "Не принят"),
    _O.PENDING: ("Waiting for you", "Ожидает сведений от вас"),
    _O.HELD: ("Delayed", "Задерживается"),
    _O.IN_PROGRESS: ("In progress", "Выполняется"),
    _O.CANCELLED: ("Cancelled", "Отменён"),
    _O.COMPLETED: ("Complete", "Выполнен"),
    _O.FAILED: ("Not carried out", "Не выполнен"),
    _O.PARTIAL: ("Partly complete", "Выполнен частично"),
    _O.ASSESSING_CANCELLATION: ("Being cancelled", "Отменяется"),
    _O.PENDING_CANCELLATION: ("Being cancelled", "Отменяется"),
}
# Of an item whose offering has no name.
_ITEM = ("Item", "Позиция")
LANGUAGES = ("en", "ru")


def place_of(language: str) -> int:
    """Which of the words are a language's (BCP 47; empty: English). Raises InvalidArgument UNSUPPORTED_LANGUAGE."""
    short = re.split("[-_]", language.lower())[0] or LANGUAGES[0]
    if short not in LANGUAGES:
        why = f"{language!r} is none of {', '.join(LANGUAGES)}"
        raise InvalidArgument("UNSUPPORTED_LANGUAGE", why, violations=[Violation("language", why)])
    return LANGUAGES.index(short)


def said(event: OrderEvent, place: int) -> str:
    """The event in words."""
    if event.kind is _K.MILESTONE:
        # In whatever language there is, rather than none.
        return event.words.get(LANGUAGES[place]) or next(iter(event.words.values()), "")
    name = event.name or f"{_ITEM[place]} {event.order_item_id}".strip()
    words = _EVENTS[event.kind][place].format(name=name)
    why = [_REASONS[event.reason][place] if event.reason is not None else "", event.explanation]
    told = ". ".join(filter(None, why))
    return f"{words}: {told}" if told else words


def state_said(state: ProductOrderState, place: int) -> str:
    """What the order's state means."""
    return _STATES[state][place]
