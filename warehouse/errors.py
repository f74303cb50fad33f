"""All errors that Hindcast raises.

HindcastError                   shown to the user without a traceback; exit code 1
├── ConfigError                 the configuration or the command line is wrong; exit code 2
├── LakeError                   the lake cannot be read or written (disk, credentials, not a table)
│   └── CommitConflictError     another process committed first: read the table again
├── StreamError                 Hubble or relay cannot be reached: retried, with backoff
│   └── StreamRefusedError      retrying will not help until something is changed (certificate, Unimplemented)
├── ClusterError                a cluster's API server answered with an error
│   ├── ClusterUnreachableError it does not answer, or is overloaded: retried, with backoff
│   ├── ClusterRefusedError     the credentials are not valid (401)
│   ├── ClusterForbiddenError   the credentials do not allow it (403)
│   ├── ClusterMissingError     it has no such kind or object (404)
│   ├── ClusterConflictError    the object was changed or is owned by someone else (409)
│   └── ClusterExpiredError     the server cannot continue a list or watch (410): start again
├── DeliveryError               a message did not arrive at its target: tried again, with backoff
│   └── DeliveryRefusedError    trying again will not help: the target refused it, or redirected it elsewhere
├── ImportFailedError           an exporter file cannot be read at all
├── ProposalError               a proposal cannot be made, approved or applied as it stands
│   └── RollBackDeniesError     rolling it back would deny traffic, which has to be accepted
├── EngineError                 the configured engine cannot be reached or used, or failed
├── AccessDeniedError           the principal may not see or do this
└── QueryError                  the query is wrong
    ├── QueryLimitError         it ran into its time or memory limit
    └── CancelledError          whoever asked it cancelled it

Errors of libraries are wrapped in the one module that imports the library, with the original as cause.
A message says what happened, where (file and line, address, table), and what to try.
"""

from __future__ import annotations


class HindcastError(Exception):
    """Base class of all Hindcast errors; its text is for the user."""

    exit_code = 1


class ConfigError(HindcastError):
    """The configuration or the command line is wrong; nothing was started."""

    exit_code = 2


class LakeError(HindcastError):
    """The lake cannot be read or written."""


class CommitConflictError(LakeError):
    """Another process committed first; nothing was written."""


class StreamError(HindcastError):
    """A stream from Hubble failed; trying again may help."""


class StreamRefusedError(StreamError):
    """A stream was refused and retrying will not help: certificate, permissions, missing method."""


class ClusterError(HindcastError):
    """A cluster's API server answered with an error."""


class ClusterUnreachableError(ClusterError):
    """The API server does not answer, or is overloaded; trying again may help."""


class ClusterRefusedError(ClusterError):
    """The API server does not accept the credentials."""


class ClusterForbiddenError(ClusterError):
    """The credentials do not allow the request."""


class ClusterMissingError(ClusterError):
    """The cluster has no such kind or object."""


class ClusterConflictError(ClusterError):
    """Someone else has changed the object, or owns fields of it."""


class ClusterExpiredError(ClusterError):
    """The server can no longer continue a list or watch: start again."""


class DeliveryError(HindcastError):
    """A message did not arrive; trying again may help."""


class DeliveryRefusedError(DeliveryError):
    """The target refused a message, and will refuse it again."""


class ImportFailedError(HindcastError):
    """An exporter file could not be read at all."""


class ProposalError(HindcastError):
    """A proposal cannot be made, approved or applied as it stands; nothing was changed in a cluster."""


class RollBackDeniesError(ProposalError):
    """Rolling a proposal back would deny traffic that goes through now, or it cannot be told; `judged` names what has to be accepted."""

    def __init__(self, message: str, *, judged: str) -> None:
        super().__init__(message)
        self.judged = judged


class EngineError(HindcastError):
    """The configured engine cannot be reached or used, or failed; the embedded one may serve instead."""


class AccessDeniedError(HindcastError):
    """The principal may not see or do this."""


class QueryError(HindcastError):
    """The query is wrong; the message says where."""


class QueryLimitError(QueryError):
    """The query ran into its time or memory limit."""


class CancelledError(QueryError):
    """The query was cancelled by the caller."""
