"""The version, alone in a module so that packaging tools can read it without importing the package."""

VERSION = "0.1.0"
