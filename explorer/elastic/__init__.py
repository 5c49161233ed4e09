"""Run an unmodified timm model at given activation rates by resizing it in place."""

from explorer.elastic.model import ElasticModel

__all__ = ["ElasticModel"]
