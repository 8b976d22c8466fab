"""The built-in guide: a provider that is no AI, so that everything works before a model is connected."""

from opencode.provider.demo.provider import Demo

__all__ = ["Demo"]
