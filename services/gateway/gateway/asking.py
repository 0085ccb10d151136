"""What is posted to an action, as the request of its method."""

from typing import Any

from google.protobuf.message_factory import GetMessageClass

from chassis.errors import Violation
from chassis.tmfjson import Dialect, bad_attributes
from gateway.actions import Action


def asked_for(action: Action, posted: dict[str, Any], dialect: Dialect) -> Any:
    """The request. A resource in it that is there already is stated as in a PATCH, with its id beside what becomes
    otherwise; `updateMask`, in the names of the fields, may say what of it counts.

    Raises InvalidArgument BAD_ATTRIBUTE with the path of every attribute that is ill-typed or missing.
    """
    if action.changed is None:
        return dialect.message(action.request, posted)
    assert action.changed.message_type is not None
    attribute = dialect.attribute(action.changed)
    stated = posted.get(attribute)
    if not isinstance(stated, dict):
        raise bad_attributes([Violation(attribute, "must be an object" if attribute in posted else "is required")])
    if not isinstance(stated.get("id"), str) or not stated["id"]:
        raise bad_attributes([Violation(f"{attribute}.id", "must be a string that says what is to be changed")])
    request: Any = dialect.message(action.request, {key: value for key, value in posted.items() if key != attribute})
    resource: Any
    resource, mask = dialect.patch(GetMessageClass(action.changed.message_type), stated, path=attribute)
    resource.id = stated["id"]
    getattr(request, action.changed.name).CopyFrom(resource)
    if not request.update_mask.paths:
        request.update_mask.paths.extend(mask)
    return request
