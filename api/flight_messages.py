"""The messages of Arrow Flight SQL that clients send and get, by their numbers in the protocol. No I/O."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "arrow.flight.protocol.sql"
_TEXT, _BYTES, _BOOL, _NUMBER = "TYPE_STRING", "TYPE_BYTES", "TYPE_BOOL", "TYPE_UINT32"
_MESSAGES: Mapping[str, Mapping[str, tuple[int, str, str]]] = {
    "CommandStatementQuery": {"query": (1, _TEXT, "one")},
    "TicketStatementQuery": {"statement_handle": (1, _BYTES, "one")},
    "CommandPreparedStatementQuery": {"prepared_statement_handle": (1, _BYTES, "one")},
    "ActionCreatePreparedStatementRequest": {"query": (1, _TEXT, "one")},
    "ActionCreatePreparedStatementResult": {
        "prepared_statement_handle": (1, _BYTES, "one"),
        "dataset_schema": (2, _BYTES, "one"),
        "parameter_schema": (3, _BYTES, "one"),
    },
    "ActionClosePreparedStatementRequest": {"prepared_statement_handle": (1, _BYTES, "one")},
    "DoPutPreparedStatementResult": {"prepared_statement_handle": (1, _BYTES, "maybe")},
    "CommandGetCatalogs": {},
    "CommandGetDbSchemas": {"catalog": (1, _TEXT, "maybe"), "db_schema_filter_pattern": (2, _TEXT, "maybe")},
    "CommandGetTables": {
        "catalog": (1, _TEXT, "maybe"),
        "db_schema_filter_pattern": (2, _TEXT, "maybe"),
        "table_name_filter_pattern": (3, _TEXT, "maybe"),
        "table_types": (4, _TEXT, "many"),
        "include_schema": (5, _BOOL, "one"),
    },
    "CommandGetTableTypes": {},
    "CommandGetSqlInfo": {"info": (1, _NUMBER, "many")},
    "CommandGetPrimaryKeys": {},
    "CommandGetExportedKeys": {},
    "CommandGetImportedKeys": {},
    "CommandGetCrossReference": {},
    "CommandGetXdbcTypeInfo": {},
}
"""The fields of each message that are used here: number, type, and whether there is one, maybe one, or many."""


@functools.cache
def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="hindcast_flight_sql.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, type_, how) in fields.items():
            label = "LABEL_REPEATED" if how == "many" else "LABEL_OPTIONAL"
            made = message.field.add(name=field, number=number, type=type_, label=label)
            if how == "maybe":
                made.proto3_optional = True
                made.oneof_index = len(message.oneof_decl)
                message.oneof_decl.add(name=f"_{field}")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES}


def unpacked(encoded: bytes) -> tuple[str, Any]:
    """Return the name and the message in an encoded Any. Raises ValueError if it is none, or not one of those above."""
    try:
        packed = any_pb2.Any.FromString(encoded)
        name = packed.type_url.rpartition(f"/{_PACKAGE}.")[2]
        found = _classes().get(name)
        if found is None:
            raise ValueError(f"{packed.type_url or 'the command'} is not supported")
        return name, found.FromString(packed.value)
    except ValueError:
        raise
    except Exception as error:  # protobuf's error has no stable base
        raise ValueError("the command is not a Flight SQL command") from error


def made(name: str, **fields: Any) -> Any:
    """Return a message."""
    return _classes()[name](**fields)


def packed(message: Any) -> bytes:
    """Return a message as an encoded Any."""
    holder = any_pb2.Any()
    holder.Pack(message)
    return holder.SerializeToString()
