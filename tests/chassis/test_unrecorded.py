"""Without a place to send them to, spans are their ids: passed on, never sampled."""

from opentelemetry import trace
from opentelemetry.propagate import extract, inject

from chassis.telemetry import Unrecorded

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def carried() -> dict[str, str]:
    """What would travel with a call."""
    carrier: dict[str, str] = {}
    inject(carrier)
    return carrier


def test_a_span_belongs_to_its_parents_trace_and_is_not_sampled() -> None:
    tracer = Unrecorded().get_tracer("test")
    context = extract({"traceparent": PARENT, "tracestate": "vendor=1"})
    with tracer.start_as_current_span("one", context=context):
        version, trace_id, span_id, flags = carried()["traceparent"].split("-")
        assert (version, trace_id) == ("00", "0af7651916cd43dd8448eb211c80319c")
        assert span_id != "b7ad6b7169203331"
        assert int(flags, 16) & 1 == 0
        assert carried()["tracestate"] == "vendor=1"
        with tracer.start_as_current_span("inner"):
            assert carried()["traceparent"].split("-")[1] == trace_id
            assert carried()["traceparent"].split("-")[2] != span_id
        assert carried()["traceparent"].split("-")[2] == span_id
    assert carried() == {}


def test_spans_without_a_parent_have_traces_of_their_own() -> None:
    tracer = Unrecorded().get_tracer("test")
    seen = set()
    for _ in range(100):
        with tracer.start_as_current_span("one") as span:
            assert span.get_span_context().is_valid
            assert not span.is_recording()
            assert trace.get_current_span() is span
            seen.add(span.get_span_context().trace_id)
    assert len(seen) == 100
