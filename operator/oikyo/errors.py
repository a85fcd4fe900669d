"""The errors of oikyo.

OikyoError
├── SpecError       the user must change something; never retried; says what to write instead
├── ClusterError    the cluster's or ours; retried with back-off
└── StageError      a stage ended without a result
"""


class OikyoError(Exception):
    """Base of all; its text is one sentence for a person."""


class SpecError(OikyoError):
    """The user must change something."""


class ClusterError(OikyoError):
    """The cluster could not do what was asked; worth another try."""


class StageError(OikyoError):
    """A stage ended without a result."""
