"""The public API: every function and class, by the shortest path to it."""

import inspect

import rqf_jax as rqf


def is_error(value):
    return inspect.isclass(value) and issubclass(value, Exception)


def public():
    found = {}

    def walk(path, module):
        for name in getattr(module, "__all__", None) or vars(module):
            value = getattr(module, name)
            if inspect.ismodule(value) and value.__name__.startswith("rqf_jax."):
                walk(f"{path}.{name}", value)
            elif callable(value) and not name.startswith("_") and not is_error(value):
                if getattr(value, "__module__", "").startswith(module.__name__):
                    found.setdefault(id(value), (f"{path}.{name}", value))

    walk("rqf", rqf)
    return dict(found.values())


PUBLIC = public()
