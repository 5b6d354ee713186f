"""Files for the fuzz tests: small structures, a record and its arrays, and what happens to files."""

import copy
import gzip
import io
import json

import numpy as np

TOKENS = (
    b"", b"nan", b"-inf", b"1e999", b"-0", b"?", b".", b"'", b'"', b";", b"#", b"loop_", b"data_x", b"\0", b"\xff\xfe",
    b"9" * 30, b"_atom_site.id", b"MODEL        1", b"ENDMDL", b"END", b"TER", b"ATOM  ", b"HETATM", b"\r\n", b"\t",
    "é".encode(), b"CA", b"null", b"true", b"NaN", b"Infinity", b"[", b"{", b"}", b"]", b",", b":",
    b"1e400", b"\\u0000",
)  # fmt: skip


def _flip(rng, content):
    at = rng.randrange(len(content))
    return content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :]


def _cut(rng, content):
    start, end = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    return content[:start] + content[end:]


def _truncate(rng, content):
    return content[: rng.randrange(len(content))]


def _insert(rng, content):
    at = rng.randrange(len(content) + 1)
    return content[:at] + rng.choice(TOKENS) + content[at:]


def _overwrite(rng, content):
    """In place: columns stay where they are."""
    at, token = rng.randrange(len(content)), rng.choice(TOKENS)
    return content[:at] + token + content[at + len(token) :]


def _token(rng, content):
    words = content.split(b" ")
    words[rng.randrange(len(words))] = rng.choice(TOKENS)
    return b" ".join(words)


def _lines(rng, content):
    """Swaps, repeats or drops a line."""
    lines = content.split(b"\n")
    i, j = (rng.randrange(len(lines)) for _ in range(2))
    what = rng.randrange(3)
    if what == 0:
        lines[i], lines[j] = lines[j], lines[i]
    elif what == 1:
        lines.insert(i, lines[j])
    else:
        del lines[i]
    return b"\n".join(lines)


MUTATIONS = (_flip, _cut, _truncate, _insert, _overwrite, _token, _lines)


def mutated(rng, content):
    """The content with one to eight changes."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        if content:
            content = rng.choice(MUTATIONS)(rng, content)
    return content


def mutated_gzip(rng, content):
    """Damaged before it is packed, or after."""
    if rng.random() < 0.5:
        return gzip.compress(mutated(rng, content), 1, mtime=0)
    return mutated(rng, gzip.compress(content, 1, mtime=0))


VALUES = (
    None, True, -1, 0, 10**30, 10**400, 1e308, float("nan"), float("inf"), "", "x", "\0", "../../x", "<b>", "\ud800",
    [], {}, [[]], [None], {"n": 1}, {"": None}, {"median": 1, "q05": 1, "q95": 1, "n": -1e300}, ["1"], [1, "2"],
)  # fmt: skip


def mutated_json(rng, data):
    """A record with one to three values replaced, dropped or added, anywhere in its tree, as text."""
    tree = json.loads(json.dumps(data))
    for _ in range(rng.choice((1, 1, 2, 3))):
        node = tree
        while True:
            places = list(node) if isinstance(node, dict) else list(range(len(node)))
            place = rng.choice(places) if places else None
            if place is None or not isinstance(node[place], (dict, list)) or rng.random() < 0.4:
                break
            node = node[place]
        if isinstance(node, dict) and (place is None or rng.random() < 0.2):
            node[rng.choice(("new", "", "step", "config", "__class__", "x" * 500))] = copy.deepcopy(rng.choice(VALUES))
        elif place is not None and rng.random() < 0.2:
            del node[place]
        elif place is not None:
            deep = rng.random() < 0.02
            node[place] = _nested(rng.choice((10, 900, 5_000))) if deep else copy.deepcopy(rng.choice(VALUES))
    return _dumped(tree)


def _nested(depth):
    """A list in a list in a list, as a marker that `_dumped` writes out: json cannot."""
    return f"nested {depth}"


def _dumped(tree):
    text = json.dumps(tree)
    for depth in (10, 900, 5_000):
        text = text.replace(f'"nested {depth}"', "[" * depth + "]" * depth)
    return text.encode("utf-8", "surrogatepass")


def atom(i, xyz, alternate=" ", resname="ALA", record="ATOM  ", insertion=" ", chain="A"):
    place = "".join(f"{x:8.3f}" for x in xyz)
    return f"{record}{i:5d}  CA {alternate}{resname} {chain}{i:4d}{insertion}   {place}  1.00  0.00           C"


STEPS = np.arange(12)
HELIX = np.stack([2.3 * np.cos(1.745 * STEPS), 2.3 * np.sin(1.745 * STEPS), 1.5 * STEPS], axis=1)
PDB = "\n".join(
    [
        "MODEL        1",
        *(atom(i, xyz) for i, xyz in enumerate(HELIX)),
        atom(12, (1.0, 2.0, 19.0), "A"),
        atom(12, (1.1, 2.0, 19.0), "B"),
        atom(13, (2.0, -1.0, 21.0), resname="MSE", record="HETATM"),
        "TER",
        *(atom(i, xyz + 9, chain="B") for i, xyz in enumerate(HELIX[:5])),
        "ENDMDL",
        "END",
    ]
).encode()
FIELDS = (
    "group_PDB id type_symbol label_atom_id label_alt_id label_comp_id label_asym_id label_seq_id pdbx_PDB_ins_code "
    "Cartn_x Cartn_y Cartn_z occupancy auth_seq_id auth_asym_id pdbx_PDB_model_num"
)
CIF = "\n".join(
    [
        "data_X",
        "#",
        "loop_",
        *(f"_atom_site.{name}" for name in FIELDS.split()),
        *(f"ATOM {i} C CA . ALA Q {i} ? {x:.3f} {y:.3f} {z:.3f} 1.00 {i} A 1" for i, (x, y, z) in enumerate(HELIX)),
        "#",
    ]
).encode()


# of schema 1, which has no hash of its arrays: damaged ones are opened
RECORD = {
    "schema": 1, "run_id": "a", "study": "paper-1d", "profile": "paper", "setting": "published", "problem": "oned",
    "method": "flow", "replicate": 0, "seed": 7, "status": "ok", "message": "", "steps": 9, "forward_evaluations": 90,
    "config": {
        "problem": {"name": "oned", "options": {"noise_std": 1.5, "n_observations": 10}}, "steps": 9, "every": 3,
        "method": {"name": "flow", "options": {"discrepancy": {"name": "energy", "options": {}}, "n_particles": 10}},
    },
    "compile_seconds": 1.2, "run_seconds": 7.5, "peak_memory_mb": 310.0, "algorithm": {"name": "a"},
    "metrics": {"w1": 0.08, "w2": 0.2}, "initial_metrics": {"w2": 1.6}, "dataset_hash": "feed", "created": "2025-11-20",
    "floors": {"w2": {"median": 0.1, "q05": 0.05, "q95": 0.2, "n": 10}},
    "data_floors": {"w2": {"median": 0.1, "q05": 0.05, "q95": 0.2, "n": 10}},
    "curve": {"step": [0, 9], "seconds": [0, 1], "w2": [1.6, 0.2]}, "environment": {"code": "c", "dtype": "float32"},
    "molecule": {
        "source": "a.pdb", "chain": "A", "n_atoms": 4, "n_beads": 4, "eigenvalues": [0.1], "collectivity": [0.5],
    },
}  # fmt: skip

# of a pack
CARD = {
    "title": "mine", "who": "A. Author", "what": "Two runs.", "licence": "CC-BY-4.0", "hardware": ["a processor"],
    "command": "cryosip run paper-1d", "cryosip": "0.1.0", "created": "2025-11-20",
}  # fmt: skip


def packed(**arrays):
    data = io.BytesIO()
    np.savez(data, **arrays)
    return data.getvalue()


ARRAYS = (
    packed(theta=np.ones((4, 1)), weights=np.full(4, 0.25), theta_true=np.zeros((3, 1))),
    packed(theta=np.ones((4, 1)), weights=np.ones(3)),
    packed(theta=np.array([{"a": 1}], dtype=object)),
    packed(theta=np.array([["x"]]), other=np.ones((2, 2), complex)),
)
