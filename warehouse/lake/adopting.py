"""Takes over data files that an engine elsewhere wrote into a folder of a table, so that they can be committed like files written here.

The files' statistics for the log are computed here, from the files themselves, so that the number of their rows is what they hold.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import quote

import pyarrow.fs as pafs
import pyarrow.parquet as pq

from warehouse.lake import files
from warehouse.lake.files import DataFile, Statistics
from warehouse.lake.handles import FAILURES, Handles
from warehouse.schema import Table

SUFFIX = ".parquet"


class Adopting(Handles):
    """The part of a `Lake` that takes over files of other engines."""

    def folder_to_write(self, table: Table, partition: Mapping[str, str]) -> str:
        """Return the path, below the table's folder, of a folder of a partition that does not exist yet, for an engine to write into.

        Without a partition it is for rows that are needed for a while and never committed. Vacuum deletes what is left there if the
        engine or this process ends before `adopt` or `discard`.
        """
        return f"{_folder(partition)}/engine-{uuid.uuid4()}".lstrip("/")

    def adopt(self, table: Table, partition: Mapping[str, str], folder: str, *, prefix: str = "") -> list[DataFile]:
        """Return the files in a folder of `folder_to_write`, in the order of their names, moved beside the partition's other files.

        They are not yet visible to readers; empty ones are left out. The folder is deleted. Raises LakeError.
        """
        filesystem, adopted = self._filesystems[table.name], list[DataFile]()
        try:
            for path, size in _written(filesystem, folder):
                statistics = _statistics(table, filesystem, path)
                if statistics.rows:
                    place = f"{_folder(partition)}/{prefix}{uuid.uuid4()}{SUFFIX}"
                    filesystem.move(path, place)
                    adopted.append(
                        DataFile(
                            path=place,
                            partition=dict(partition),
                            size=size,
                            rows=statistics.rows,
                            modified=time.time_ns() // 1_000_000,
                            statistics=statistics.text(),
                        )
                    )
        except BaseException as error:
            files.delete_files(filesystem, [file.path for file in adopted])
            self.discard(table, folder)
            if isinstance(error, FAILURES):
                raise self._error(table, "has files of an engine that cannot be read", error) from error
            raise
        self.discard(table, folder)
        return adopted

    def discard(self, table: Table, folder: str) -> None:
        """Delete a folder of `folder_to_write`; what cannot be deleted is left to vacuum."""
        try:
            self._filesystems[table.name].delete_dir(folder)
        except FAILURES:
            return

    def forget(self, table: Table, written: Sequence[DataFile]) -> None:
        """Delete files that were written and will not be committed; vacuum deletes any that cannot be deleted now."""
        files.delete_files(self._filesystems[table.name], [file.path for file in written])


def _folder(partition: Mapping[str, str]) -> str:
    return "/".join(f"{name}={quote(value, safe='')}" for name, value in partition.items())


def _written(filesystem: pafs.FileSystem, folder: str) -> Iterator[tuple[str, int]]:
    """Yield the data files in a folder and their sizes, in the order of their names, which is that of their rows."""
    listed = filesystem.get_file_info(pafs.FileSelector(folder, allow_not_found=True))
    for info in sorted(listed, key=lambda info: str(info.base_name)):
        if info.type == pafs.FileType.File and info.base_name.endswith(SUFFIX) and not info.base_name.startswith(("_", ".")):
            yield info.path, info.size


def _statistics(table: Table, filesystem: pafs.FileSystem, path: str) -> Statistics:
    statistics = Statistics(table.statistics_columns)
    schema = table.file_schema
    with filesystem.open_input_file(path) as source:
        file = pq.ParquetFile(source)
        names = schema.names[: table.statistics_columns]
        for group in range(file.metadata.num_row_groups):
            rows = file.read_row_group(group, columns=names, use_threads=False).select(names)
            statistics.add(rows.cast(schema.empty_table().select(names).schema))
    return statistics
