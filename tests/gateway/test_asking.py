"""What is posted to actions that change what is there already."""

from typing import Any

import pytest

from chassis.errors import InvalidArgument
from chassis.tmfjson import Dialect
from gateway.actions import ACTIONS, Action
from gateway.asking import asked_for

DIALECT = Dialect("v4")
CHANGING = [action for action in ACTIONS if action.changed is not None]


def attribute(action: Action) -> str:
    assert action.changed is not None
    return DIALECT.attribute(action.changed)


def faults(action: Action, posted: dict[str, Any]) -> list[str]:
    with pytest.raises(InvalidArgument) as refused:
        asked_for(action, posted, DIALECT)
    return [wrong.field for wrong in refused.value.violations]


def test_every_action_with_a_mask_changes_something_that_is_there() -> None:
    masked = {one.path for one in ACTIONS if "update_mask" in one.method.input_type.fields_by_name}
    assert masked == {one.path for one in CHANGING}
    assert "/orderAmendment/v1/previewAmendment" in masked


@pytest.mark.parametrize("action", CHANGING, ids=lambda action: action.path)
def test_what_is_changed_is_named_by_its_id_and_only_what_is_stated_changes(action: Action) -> None:
    name, field = attribute(action), action.changed
    assert field is not None
    assert field.message_type is not None
    told = next(one for one in ("description", "name") if one in field.message_type.fields_by_name)
    request = asked_for(action, {name: {"id": "7", told: "another", "href": "/somewhere"}}, DIALECT)
    changed = getattr(request, field.name)
    assert (changed.id, getattr(changed, told)) == ("7", "another")
    assert list(request.update_mask.paths) == [told]
    masked = asked_for(action, {name: {"id": "7"}, "updateMask": {"paths": [told]}, "etag": "3"}, DIALECT)
    assert (list(masked.update_mask.paths), masked.etag) == ([told], "3")


@pytest.mark.parametrize("action", CHANGING, ids=lambda action: action.path)
def test_what_is_wrong_is_named_by_its_place(action: Action) -> None:
    name = attribute(action)
    assert faults(action, {}) == [name]
    assert faults(action, {name: "7"}) == [name]
    assert faults(action, {name: {}}) == [f"{name}.id"]
    assert faults(action, {name: {"id": 7}}) == [f"{name}.id"]
    assert faults(action, {name: {"id": "7", "name": 1, "description": 1}})[0].startswith(f"{name}.")
