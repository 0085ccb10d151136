"""What benchmarks share: one JSON line per figure, and rounds in which value and baseline take turns."""

import json
import statistics
import threading
import time
from collections.abc import Callable


def report(
    name: str, value: float, unit: str, *, baseline: float | None = None, goal: float, lower: bool = False
) -> bool:
    """Prints a figure and says whether its goal is met. The goal is compared with value/baseline where there is a
    baseline, else with the value; `lower` means that less is better."""
    ratio = None if baseline is None else value / baseline
    measured = value if ratio is None else ratio
    ok = measured <= goal if lower else measured >= goal
    figure = {
        "name": name,
        "value": round(value, 3),
        "unit": unit,
        "baseline": None if baseline is None else round(baseline, 3),
        "ratio": None if ratio is None else round(ratio, 3),
        "goal": goal,
        "ok": ok,
    }
    print(json.dumps(figure, ensure_ascii=False), flush=True)
    return ok


def per_second(work: Callable[[], object], seconds: float, threads: int) -> float:
    """How often `threads` callers together get the work done in a second; an error ends the measurement."""
    stop = time.perf_counter() + seconds
    counts = [0] * threads
    errors: list[BaseException] = []

    def caller(index: int) -> None:
        try:
            while time.perf_counter() < stop:
                work()
                counts[index] += 1
        except BaseException as error:
            errors.append(error)
            raise

    running = [threading.Thread(target=caller, args=(index,)) for index in range(threads)]
    begun = time.perf_counter()
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if errors:
        raise errors[0]
    return sum(counts) / (time.perf_counter() - begun)


def taking_turns(
    value: Callable[[], object],
    baseline: Callable[[], object],
    *,
    seconds: float = 3.0,
    rounds: int = 5,
    threads: int = 8,
) -> tuple[float, float]:
    """The median rates of both, measured in turns so that what else the machine does meets both."""
    pairs = [(per_second(value, seconds, threads), per_second(baseline, seconds, threads)) for _ in range(rounds)]
    ours, theirs = zip(*pairs, strict=True)
    return statistics.median(ours), statistics.median(theirs)
