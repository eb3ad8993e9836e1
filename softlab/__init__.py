"""Offline soft labels for knowledge distillation: run the teacher once, train many students.

Names are listed in `__init__.pyi` and loaded when first used, so that importing softlab doesn't wait for torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
