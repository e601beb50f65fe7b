"""The Docker engine over its socket: what it is, which images it holds, and their bytes.

In: an endpoint and references. Out: facts and bytes. Touches: the engine's socket, and nothing else.
"""

from buildorch.engine.api import Engine
from buildorch.engine.content import read_blob
from buildorch.engine.saved import SavedImage, read_saved

__all__ = ["Engine", "SavedImage", "read_blob", "read_saved"]
