"""The version of this tree; members of different versions may meet during a rolling upgrade."""

VERSION = "0.1.0"
