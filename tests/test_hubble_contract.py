"""The wire contract: our generated messages and services against Hubble's published fields and methods.

A difference in either direction would make us read, or drop, what a real Hubble means by a number on the wire.
"""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from google.protobuf import any_pb2, field_mask_pb2, timestamp_pb2, wrappers_pb2
from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto

from collectors.hubble_api.flow import flow_pb2
from collectors.hubble_api.observer import observer_pb2
from collectors.hubble_api.peer import peer_pb2
from collectors.hubble_api.relay import relay_pb2

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = ROOT / "tests" / "data" / "hubble"
OURS = "collectors/hubble_api/"
MODULES = {
    "flow/flow.proto": flow_pb2,
    "observer/observer.proto": observer_pb2,
    "peer/peer.proto": peer_pb2,
    "relay/relay.proto": relay_pb2,
    "google/protobuf/any.proto": any_pb2,
    "google/protobuf/field_mask.proto": field_mask_pb2,
    "google/protobuf/timestamp.proto": timestamp_pb2,
    "google/protobuf/wrappers.proto": wrappers_pb2,
}

Row = tuple[str, ...]


def published(name: str) -> list[Row]:
    """The rows of a published list, without its heading."""
    with (PUBLISHED / name).open(encoding="utf-8", newline="") as file:
        return [tuple(row) for row in csv.reader(file)][1:]


def descriptor_of(module: ModuleType) -> FileDescriptorProto:
    """What protoc compiled into a generated module."""
    file = FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(file)
    return file


def field_rows(module: ModuleType) -> Iterator[Row]:
    """A generated module's fields and enum values, written as the published list writes them."""
    file = descriptor_of(module)

    def rows_of_message(message: DescriptorProto, name: str) -> Iterator[Row]:
        if not message.field:
            yield name, "(no fields)", "", "message", "", flag(message.options.deprecated)
        for field in message.field:
            yield name, field.name, str(field.number), type_of(field), label_of(field, message), flag(field.options.deprecated)
        for span in message.reserved_range:  # its end is exclusive, unlike an enum's
            yield reserved(name, span.start, span.end - 1)
        for nested in message.nested_type:
            yield from rows_of_message(nested, f"{name}.{nested.name}")
        for enum in message.enum_type:
            yield from rows_of_enum(enum, f"{name}.{enum.name}")

    def rows_of_enum(enum: EnumDescriptorProto, name: str) -> Iterator[Row]:
        for value in enum.value:
            yield name, value.name, str(value.number), "enum_value", "", flag(value.options.deprecated)
        for span in enum.reserved_range:
            yield reserved(name, span.start, span.end)

    for message in file.message_type:
        for row in rows_of_message(message, message.name):
            yield file.package, *row, file.name.removeprefix(OURS)
    for enum in file.enum_type:
        for row in rows_of_enum(enum, enum.name):
            yield file.package, *row, file.name.removeprefix(OURS)


def flag(value: bool) -> str:
    return "true" if value else "false"


def reserved(name: str, first: int, last: int) -> Row:
    return name, "(reserved)", str(first) if first == last else f"{first}-{last}", "reserved", "", ""


def type_of(field: FieldDescriptorProto) -> str:
    if field.type == FieldDescriptorProto.TYPE_ENUM:
        return "enum " + field.type_name.removeprefix(".")
    if field.type == FieldDescriptorProto.TYPE_MESSAGE:
        return field.type_name.removeprefix(".")
    return FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()


def label_of(field: FieldDescriptorProto, message: DescriptorProto) -> str:
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return "repeated"
    if field.HasField("oneof_index"):
        return "oneof " + message.oneof_decl[field.oneof_index].name
    return "optional"


def method_rows(module: ModuleType) -> Iterator[Row]:
    """A generated module's methods, written as the published list writes them."""
    streaming = {(False, False): "unary", (False, True): "server", (True, False): "client", (True, True): "bidi"}
    file = descriptor_of(module)
    for service in file.service:
        for method in service.method:
            yield (
                f"/{file.package}.{service.name}/{method.name}",
                method.input_type.removeprefix("."),
                method.output_type.removeprefix("."),
                streaming[method.client_streaming, method.server_streaming],
                file.name.removeprefix(OURS),
            )


def differences(theirs: Iterable[Row], ours: Iterable[Row]) -> list[str]:
    """Each row that one side has and the other has not, named by the side."""
    their_rows, our_rows = set(theirs), set(ours)
    return [f"only published: {','.join(row)}" for row in sorted(their_rows - our_rows)] + [
        f"only ours: {','.join(row)}" for row in sorted(our_rows - their_rows)
    ]


@pytest.mark.parametrize("file", MODULES)
def test_our_fields_are_the_published_ones_row_by_row(file: str) -> None:
    theirs = [row for row in published("api_fields.csv") if row[-1] == file]
    assert theirs
    found = differences(theirs, field_rows(MODULES[file]))
    assert not found, "\n".join(found)


def test_every_published_file_is_compared() -> None:
    assert {row[-1] for row in published("api_fields.csv") + published("api_services.csv")} == set(MODULES)


def test_our_methods_are_the_published_ones_with_their_streaming() -> None:
    ours = [row for module in MODULES.values() for row in method_rows(module)]
    found = differences(published("api_services.csv"), ours)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("column", range(8))
def test_a_change_in_any_column_of_a_row_is_listed(column: int) -> None:
    row = next(row for row in published("api_fields.csv") if row[1:3] == ("Layer7", "kafka"))
    changed = (*row[:column], row[column] + "x", *row[column + 1 :])
    assert differences([changed], [row]) == [f"only published: {','.join(changed)}", f"only ours: {','.join(row)}"]


def test_the_generated_modules_are_what_make_proto_writes(tmp_path: Path) -> None:
    protos = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / OURS).glob("*/*.proto"))]
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--python_out={tmp_path}", f"--pyi_out={tmp_path}", *protos]
    subprocess.run(command, cwd=ROOT, check=True)
    written = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*_pb2.py*"))
    assert len(written) == 2 * len(protos)
    assert [path for path in written if (ROOT / path).read_bytes() != (tmp_path / path).read_bytes()] == []
