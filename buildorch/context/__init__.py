"""The folders a build may read, and the names they go to BuildKit under.

In: folders. Out: aliases. Touches: the file system; only its own temporary folder is written.
"""

from buildorch.context.aliases import aliases, stamp

__all__ = ["aliases", "stamp"]
