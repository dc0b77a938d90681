"""lamina: lazy arrays with automatic fusion for plain CPUs, and language models on top.

Importing this package loads nothing else; ask for what you need::

    import lamina.core as mx
    import lamina.nn as nn
"""

__version__ = "0.1.0"
