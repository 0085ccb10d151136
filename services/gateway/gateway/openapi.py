"""The description of the REST API, OpenAPI 3.1, made from the contracts."""

import re
from collections.abc import Iterable
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from chassis.scalars import spellings
from chassis.tmfjson import Dialect, descriptor_of
from gateway.actions import Action
from gateway.contents import PATH as CONTENT
from gateway.resources import CREATE, DELETE, GET, LIST, UPDATE, Resource
from svyaz.type.v1 import options_pb2

_JSON = "application/json"
_MONEY = "svyaz.type.v1.Money"
_INSTANT: dict[str, Any] = {"type": "string", "format": "date-time"}
_SCALARS: dict[int, dict[str, Any]] = {
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.TYPE_INT64: {"type": "integer", "format": "int64"},
}
_ERROR = {
    "type": "object",
    "required": ["code", "reason"],
    "properties": {
        "code": {"type": "string", "description": "A stable reason for programs"},
        "reason": {"type": "string", "description": "What is wrong, for people"},
        "message": {"type": "string"},
        "status": {"type": "string"},
        "@type": {"type": "string"},
        "details": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["path", "message"],
                "properties": {"path": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}


def document(resources: Iterable[Resource], actions: Iterable[Action], dialect: Dialect) -> dict[str, Any]:
    """The OpenAPI document of the resources and the other calls in one dialect."""
    schemas = _Schemas(dialect)
    paths: dict[str, Any] = {}
    for resource in resources:
        path = resource.path(dialect.version)
        paths[path] = _collection(resource, schemas)
        paths[path + "/{id}"] = _item(resource, schemas)
    for action in actions:
        paths[action.path] = {
            "post": {
                "operationId": f"{action.method.name[0].lower()}{action.method.name[1:]}",
                "tags": [action.path.split("/")[1]],
                "summary": action.summary,
                "requestBody": _body(schemas.reference(descriptor_of(action.request))),
                "responses": _responses({"200": _content(schemas.reference(descriptor_of(action.response)))}),
            }
        }
    paths[re.sub(r"<(\w+)>", r"{\1}", CONTENT)] = _content_of_an_attachment()
    return {
        "openapi": "3.1.0",
        "info": {"title": "Svyaz", "version": "1", "description": "TM Forum Open APIs, dialect " + dialect.version},
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
            "schemas": {"Error": _ERROR} | schemas.found,
        },
    }


class _Schemas:
    """JSON schemas of messages, collected as they are referred to."""

    def __init__(self, dialect: Dialect) -> None:
        self.found: dict[str, Any] = {}
        self._dialect = dialect

    def reference(self, descriptor: Descriptor) -> dict[str, Any]:
        if descriptor.name not in self.found:
            # Before its properties, because messages contain themselves.
            schema = self.found[descriptor.name] = {"type": "object"}
            schema.update(self._object(descriptor))
        return {"$ref": f"#/components/schemas/{descriptor.name}"}

    def _object(self, descriptor: Descriptor) -> dict[str, Any]:
        if descriptor.full_name == _MONEY:
            return {
                "properties": {"unit": {"type": "string"}, "value": {"type": "number"}},
                "additionalProperties": False,
            }
        codec = self._dialect.codec(descriptor)
        properties: dict[str, Any] = {}
        required = []
        for attribute, field in codec.attributes.items():
            if attribute == "etag" and codec.is_resource:
                continue
            options = field.GetOptions().Extensions
            properties[attribute] = self._field(field)
            if options[options_pb2.output_only]:
                properties[attribute] = properties[attribute] | {"readOnly": True}
            if options[options_pb2.required]:
                required.append(attribute)
        if codec.is_resource:
            properties["href"] = {"type": "string", "format": "uri-reference", "readOnly": True}
        schema: dict[str, Any] = {"properties": properties, "additionalProperties": codec.extensible}
        return schema | ({"required": required} if required else {})

    def _field(self, field: FieldDescriptor) -> dict[str, Any]:
        schema = self._single(field)
        return {"type": "array", "items": schema} if field.is_repeated else schema

    def _single(self, field: FieldDescriptor) -> dict[str, Any]:
        if field.message_type is not None:
            if field.message_type.full_name == "google.protobuf.Timestamp":
                return _INSTANT
            return self.reference(field.message_type)
        if field.enum_type is not None:
            return {"type": "string", "enum": list(spellings(field.enum_type).values())}
        options = field.GetOptions().Extensions
        if options[options_pb2.decimal]:
            return {"type": "number"}
        if options[options_pb2.json]:
            return {}
        return _SCALARS[field.type]


def _collection(resource: Resource, schemas: _Schemas) -> dict[str, Any]:
    schema = schemas.reference(descriptor_of(resource.message_class))
    operations: dict[str, Any] = {}
    if LIST in resource.allowed:
        found = _content({"type": "array", "items": schema}) | {
            "headers": {
                "X-Total-Count": {"schema": {"type": "integer"}, "description": "How many match"},
                "X-Result-Count": {"schema": {"type": "integer"}, "description": "How many are in this answer"},
                "Link": {"schema": {"type": "string"}, "description": "first, prev, next, last"},
            }
        }
        operations["get"] = {
            "operationId": _operation(resource, LIST),
            "tags": [resource.api],
            "description": "Attribute paths filter: `a=1`, `a.b.gt=1`, `a=1,2`; operators gt gte lt lte ne eq regex.",
            "parameters": [
                _parameter("fields", "Attribute paths, separated by commas"),
                _parameter("offset", "How many to leave out", {"type": "integer", "minimum": 0}),
                _parameter("limit", "At most how many, 1,000 unless stated", {"type": "integer", "minimum": 0}),
                _parameter("sort", "Attribute paths, separated by commas; - in front: descending"),
            ],
            "responses": _responses({"200": found, "206": found}),
        }
    if CREATE in resource.allowed:
        operations["post"] = {
            "operationId": _operation(resource, CREATE),
            "tags": [resource.api],
            "parameters": [_KEY, _header("X-Branch", "The branch that it belongs to"), *_BODY_HEADERS],
            "requestBody": _body(schema),
            "responses": _responses({"201": _content(schema)}),
        }
    return operations


def _item(resource: Resource, schemas: _Schemas) -> dict[str, Any]:
    schema = schemas.reference(descriptor_of(resource.message_class))
    fields = _parameter("fields", "Attribute paths, separated by commas")
    operations: dict[str, Any] = {
        "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}]
    }
    if GET in resource.allowed:
        operations["get"] = {
            "operationId": _operation(resource, GET),
            "tags": [resource.api],
            "parameters": [
                fields,
                _parameter("at", "As it was at this instant", _INSTANT),
                _header("If-None-Match", "An etag that the caller has"),
            ],
            "responses": _responses({"200": _content(schema), "304": {"description": "Not changed"}}),
        }
    if UPDATE in resource.allowed:
        operations["patch"] = {
            "operationId": _operation(resource, UPDATE),
            "tags": [resource.api],
            "description": "A merge patch (RFC 7386): null removes, arrays are replaced.",
            "parameters": [fields, _KEY, _MATCH, *_BODY_HEADERS],
            "requestBody": {
                "required": True,
                "content": {kind: {"schema": {"type": "object"}} for kind in (_JSON, "application/merge-patch+json")},
            },
            "responses": _responses({"200": _content(schema)}),
        }
    if DELETE in resource.allowed:
        operations["delete"] = {
            "operationId": _operation(resource, DELETE),
            "tags": [resource.api],
            "parameters": [_KEY, _MATCH],
            "responses": _responses({"204": {"description": "Deleted"}}),
        }
    return operations


def _content_of_an_attachment() -> dict[str, Any]:
    answer = {
        "description": "The bytes, in their own media type",
        "headers": {"ETag": {"schema": {"type": "string"}, "description": "The content's SHA-256"}},
        "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}},
    }
    return {
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in ("id", "attachment")
        ],
        "get": {
            "operationId": "getContent",
            "tags": ["document"],
            "summary": "What is in a document's attachment: where its url leads",
            "responses": _responses({"200": answer}),
        },
    }


def _operation(resource: Resource, verb: str) -> str:
    # Some resources belong to several APIs.
    return f"{resource.api}_{resource.method(verb).name}"


def _parameter(name: str, description: str, schema: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": schema or {"type": "string"}}


def _header(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "description": description, "schema": {"type": "string"}}


def _content(schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": "Success", "content": {_JSON: {"schema": schema}}}


def _body(schema: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {_JSON: {"schema": schema}}}


def _responses(good: dict[str, Any]) -> dict[str, Any]:
    error = {"description": "Refused", "content": {_JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}}
    return good | {"default": error}


_KEY = _header("Idempotency-Key", "The same key and body again give the same answer, once done")
_MATCH = _header("If-Match", "The etag that the change is based on")
_BODY_HEADERS = (_header("Prefer", "handling=strict refuses unknown attributes"),)
