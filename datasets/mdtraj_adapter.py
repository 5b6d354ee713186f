"""The only file that knows MDTraj: frames of XTC files."""

from collections.abc import Generator
from pathlib import Path

import numpy as np
from jaxtyping import Float

ANGSTROMS = 10.0  # in a nanometer, the unit of XTC files


def xtc_frames(path: Path) -> Generator[Float[np.ndarray, "n 3"], None, None]:
    """The frames of an XTC file of GROMACS or OpenMM, in angstroms, one after the other.

    ImportError where MDTraj is not installed, and ValueError where the file is damaged or ends within a frame.
    """
    try:
        from mdtraj.formats import XTCTrajectoryFile  # imports half of MDTraj
    except ImportError as error:
        raise ImportError(f"MDTraj reads XTC files such as {path} ({error}); wanted: pip install mdtraj") from error
    try:
        with XTCTrajectoryFile(str(path)) as file:
            while len(frames := file.read(n_frames=1)[0]):
                yield ANGSTROMS * frames[0].astype(np.float64)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: MDTraj cannot read it ({error}); wanted a whole XTC file") from error
