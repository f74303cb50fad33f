"""Imports files of flows that exporters and command lines wrote: `hindcast import`."""
