"""The folders a build may read: what they hold, whether it changed, and the names they go to BuildKit under.

In: folders. Out: listings, states, aliases. Touches: the file system; only its own temporary folder and the cache of
what was read before are written.
"""

from buildorch.context.aliases import aliases, stamp
from buildorch.context.content import Content
from buildorch.context.folder_state import State, changed
from buildorch.context.listing import state
from buildorch.context.reading import ContextListing, read
from buildorch.context.stat_cache import StatCache

__all__ = ["Content", "ContextListing", "StatCache", "State", "aliases", "changed", "read", "stamp", "state"]
