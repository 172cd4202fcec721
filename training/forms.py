"""The forms of a run's JSON files: right syntax is not enough."""

import json
import math
import os

from santm_tf.paths import open_file
from santm_tf.training.errors import UsageError

NUMBER = (int, float)
MOST = 2**53  # of whole numbers, which as floats are still exact
METRICS = {"epochs": [{"epoch": int, "seconds": NUMBER, "loss?": NUMBER}], "best?": {}, "result?": {}}
KEPT = {"channels?": {"numbers": [{"name": str, "mean": NUMBER, "scale": NUMBER}], "missing": str,
                     "differences": bool, "categories": []},
        "target?": {"kind": str, "names?": [str], "mean?": [NUMBER], "scale?": [NUMBER]}, "steps?": int}
POSITION = {"epoch?": int, "batch?": int, "best?": NUMBER, "waited?": int, "seconds?": NUMBER, "sums?": [],
            "plans?": [int]}
OUTLINE = {"outputs": int, "features?": (int, None), "length?": (int, None), "steps?": (int, None),
           "return_sequences?": bool, "padding?": (int, float, None), "vocabulary?": (int, None),
           "stateful?": bool, "categories": [int], "classes?": ([str], None)}


def misfit(value, form, place=""):
    """Where a value of JSON is not of a form, in words; None where it is.

    Args:
      form: a type; a tuple of forms, of which one fits; a list of one form, which each item has, or of none;
        a dict of forms by key. A key with a question mark may be missing, and there may be others.

    >>> misfit({"epochs": [{"epoch": 1, "seconds": 0.5}]}, METRICS) is None
    True
    >>> misfit([], METRICS), misfit({"epochs": [{"epoch": "1", "seconds": 1}]}, METRICS)
    ('it is not an object', "['epochs'][0]['epoch'] is not an int")
    """
    if isinstance(form, tuple):
        found = [misfit(value, one, place) for one in form]
        return None if None in found else found[0]
    kind = next((kind for kind in (dict, list) if isinstance(form, kind)), form)
    if not (value is None if kind is None else type(value) is kind):
        return f"{place or 'it'} is not {NAMES.get(kind) or f'a {kind.__name__}'}"
    if kind is int and abs(value) > MOST:
        return f"{place or 'it'} is too large"
    held = []
    if kind is list:
        held = [(item, one, f"{place}[{i}]") for one in form for i, item in enumerate(value)]
    elif kind is dict:
        for name, one in form.items():
            key = name.rstrip("?")
            if key not in value and key == name:
                return f"{place or 'it'} has no {key!r}"
            held += [(value[key], one, f"{place}[{key!r}]")] if key in value else []
    return next(filter(None, (misfit(*one) for one in held)), None)


NAMES = {dict: "an object", list: "a list", int: "an int", None: "null"}


def read(path, form, advice):
    """What a file of JSON holds, which must fit a form. Only figures may be infinite or NaN."""
    try:
        with open_file(path) as file:
            found = json.load(file)
        # Else a text in it cannot be printed, or a size is no number.
        json.dumps(found, ensure_ascii=False, allow_nan=form is METRICS).encode()
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: damaged ({error}); {advice}") from error
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    if why := misfit(found, form):
        raise UsageError(f"{path}: damaged ({why}); {advice}")
    return found


def metrics(path):
    """What a run's metrics.json holds so far, or nothing yet: see `Workdir.read_metrics`."""
    if not os.path.exists(path):
        return {"epochs": []}
    found = read(path, METRICS, "delete it")
    if not math.isfinite(sum(epoch["seconds"] for epoch in found["epochs"])):
        raise UsageError(f"{path}: damaged (seconds that are not finite); delete it")
    return found
