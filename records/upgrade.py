"""Records of schemas 1 and 2 in the form of today: the one place that knows what older versions wrote."""

import math
import re
from typing import Any

from cryosip.records.schema import SCHEMA, Array

Table = dict[str, Any]

READ = (1, 2, SCHEMA)
# defaults of the code that wrote them, which did not record what it was not given
DEFAULTS: dict[str, Table] = {"nanocluster": {"tau": 0.25}, "flow": {"sampling": "method-1"}}
RENAMED = {"forward_calls": "forward_evaluations"}
OBJECTIVES = ("large-data", "particle-number")  # measures of the study of consistency that name one


def upgraded(table: Table) -> Table:
    """The table of a record in the form of schema 3, under its own number. Raises ValueError for other schemas."""
    if table.get("schema") == SCHEMA:
        return table
    if table.get("schema") not in READ:
        raise ValueError(f"schema {table.get('schema')!r}: this version of cryosip reads schemas 1 to {SCHEMA}")
    known = _renamed({name: value for name, value in table.items() if value is not None and value != {}})
    environment = known.get("environment", {})
    code = {"engine": environment.get("code") or ""} if isinstance(environment, dict) else {}
    known |= {"labels": _labels(known), "config": _config(known), "identity": known.get("identity", code)}
    for name in ("metrics", "initial_metrics", "oracle_metrics"):
        if isinstance(known.get(name), dict):
            known[name] = {metric: value for metric, value in known[name].items() if value is not None}
    for name in ("setting", "problem", "method"):
        known.pop(name, None)
    if table["schema"] == 1:
        known.pop("arrays_hash", None)
    elif "arrays_hash" not in known:
        raise ValueError("arrays_hash is missing")
    return known


def upgraded_arrays(schema: int, problem: str, arrays: dict[str, Array]) -> dict[str, Array]:
    """The arrays of a record as today's; images of the nanocluster had their rows along x before schema 3."""
    if schema == SCHEMA or problem != "nanocluster":
        return arrays
    return arrays | {name: _transposed(arrays[name]) for name in ("image_clean", "image_noisy") if name in arrays}


def _transposed(images: Array) -> Array:
    size = math.isqrt(images.shape[1])
    return images.reshape(-1, size, size).swapaxes(1, 2).reshape(images.shape)


def _renamed(part: Any) -> Any:
    """A record, its curve or its budgets with the names of today."""
    if not isinstance(part, dict):
        return part
    names = {RENAMED.get(name, name): value for name, value in part.items()}
    return names | {"curve": _renamed(names["curve"])} if "curve" in names else names


def _labels(table: Table) -> Table:
    """The text of a setting, such as "annealed K=10" or "likelihood, §4.1", by parts."""
    setting = table.get("setting")
    if not isinstance(setting, str):
        raise ValueError(f"setting is {setting!r}; wanted text")
    if table.get("method") in OBJECTIVES:
        objective, _, variant = setting.partition(", ")
        return {"variant": variant, "axis": "objective", "value": objective}
    found = re.fullmatch(r"(?:(.*?),? )?(\w+)=([-+.\de]+)", setting)
    if found is None or table.get("study") == "hsp90-open":
        return {"variant": setting}
    return {"variant": found[1] or "", "axis": found[2], "value": float(found[3])}


def _config(table: Table) -> Any:
    config = table.get("config")
    if not isinstance(config, dict):
        return config
    config = {name: value for name, value in config.items() if value is not None}
    if "budgets" in config:
        config["budgets"] = _renamed(config["budgets"])
    for part in ("problem", "method"):
        choice = config.get(part)
        if isinstance(choice, dict):
            name = table.get(part, choice.get("name"))
            config[part] = choice | {"name": name, "defaults": DEFAULTS.get(str(name), {})}
    return config
