"""Particles of other programs: what we wrote comes back, conventions agree, and what is broken is named."""

import os
from pathlib import Path

import jax.numpy as jnp
import jax.random as jr
import mrcfile
import numpy as np
import pandas as pd
import pytest
import starfile
from scipy.spatial.transform import Rotation

from cryosip.datasets import particle_files, rotations
from cryosip.datasets.particle_files import Stack
from cryosip.datasets.particle_stacks import read_images, read_particles
from cryosip.datasets.protein_poses import ProteinPose

EXAMPLES = Path(os.environ.get("CRYOSIP_STRUCTURES", "")) / "relion"
N, SIZE, PIXEL = 6, 8, 2.5
IMAGES = np.random.default_rng(0).normal(size=(N, SIZE, SIZE)).astype(np.float32)
POSE = ProteinPose(rotations.uniform(jr.key(0), N), 3 * jr.normal(jr.key(1), (N, 2)), jnp.zeros(N))
DEFOCUS = np.linspace(1e4, 2e4, N)


def written(folder, defocus=DEFOCUS):
    folder.mkdir(exist_ok=True)
    particle_files.write_stack(folder, Stack(IMAGES, PIXEL, defocus, POSE))
    return folder / "particles.star"


def changed(folder, particles=None, optics=None):
    """The table with other columns; None takes one away."""
    tables = starfile.read(written(folder), always_dict=True)
    for table, changes in (("particles", particles or {}), ("optics", optics or {})):
        for name, value in changes.items():
            tables[table] = tables[table].drop(columns=name) if value is None else tables[table].assign(**{name: value})
    starfile.write(tables, folder / "changed.star", overwrite=True)
    return folder / "changed.star"


@pytest.mark.parametrize("defocus", [DEFOCUS, None])
def test_what_was_written_comes_back(tmp_path, defocus):
    found = read_particles(written(tmp_path, defocus))
    sign = 1 if defocus is None else -1
    np.testing.assert_array_equal(sign * read_images(found, np.arange(N)), IMAGES)
    np.testing.assert_array_equal(sign * read_images(found, np.array([4, 1])), IMAGES[[4, 1]])
    assert (found.size, found.pixel) == (SIZE, PIXEL)
    np.testing.assert_allclose(found.rotation, POSE.rotation, atol=1e-6)
    np.testing.assert_allclose(found.shift, POSE.shift, atol=1e-5)
    if defocus is None:
        assert found.ctf is None
    else:
        np.testing.assert_allclose(found.ctf.defocus_u, defocus)
        assert found.ctf.spherical_aberration[0] == pytest.approx(2.7e7)
        assert (found.ctf.voltage[0], found.ctf.amplitude_contrast[0], found.ctf.scale[0]) == (300, 0.1, 1)
    assert found.message == "columns that are not used: rlnMicrographName"


def test_one_table_as_relion_3_0_wrote_it_says_the_same(tmp_path):
    tables = starfile.read(written(tmp_path), always_dict=True)
    optics, particles = tables["optics"].iloc[0], tables["particles"].drop(columns="rlnOpticsGroup")
    for axis in "XY":
        particles[f"rlnOrigin{axis}"] = particles.pop(f"rlnOrigin{axis}Angst") / PIXEL
    for name in ("rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast"):
        particles[name] = optics[name]
    particles = particles.assign(rlnMagnification=50_000.0, rlnDetectorPixelSize=PIXEL * 5)
    starfile.write(particles, tmp_path / "old.star")
    found, wanted = (read_particles(tmp_path / name) for name in ("old.star", "particles.star"))
    assert found.pixel == pytest.approx(wanted.pixel)
    for name in ("place", "rotation", "shift", "ctf"):
        np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), rtol=1e-5, atol=1e-5)


def cryosparc(folder, **changes):
    """Its file of the same particles; rotation vectors are those of the inverse rotations."""
    star = read_particles(written(folder))
    columns = {
        "uid": np.arange(N, dtype=np.uint64),
        "blob/path": np.array([b">particles.mrcs"] * N),
        "blob/idx": np.arange(N, dtype=np.uint32),
        "blob/psize_A": np.full(N, PIXEL, np.float32),
        "ctf/accel_kv": np.full(N, 300, np.float32),
        "ctf/cs_mm": np.full(N, 2.7, np.float32),
        "ctf/amp_contrast": np.full(N, 0.1, np.float32),
        "ctf/df1_A": DEFOCUS + 300,
        "ctf/df2_A": DEFOCUS,
        "ctf/df_angle_rad": np.full(N, 0.3),
        "alignments3D/pose": Rotation.from_matrix(star.rotation.swapaxes(1, 2)).as_rotvec(),
        "alignments3D/shift": -star.shift / PIXEL,
        "alignments3D/psize_A": np.full(N, PIXEL),
    } | changes
    rows = np.zeros(N, [(name, a.dtype, a.shape[1:]) for name, a in columns.items()])
    for name, a in columns.items():
        rows[name] = a
    with open(folder / "particles.cs", "wb") as file:
        np.save(file, rows)
    return folder / "particles.cs"


def test_a_file_of_cryosparc_says_the_same_as_that_of_relion(tmp_path):
    found = read_particles(cryosparc(tmp_path / "cryosparc"))
    wanted = read_particles(changed(tmp_path, {"rlnDefocusU": DEFOCUS + 300, "rlnDefocusAngle": np.rad2deg(0.3)}))
    for name in ("place", "rotation", "shift", "ctf"):
        np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(read_images(found, np.arange(N)), -IMAGES)
    assert found.message == "columns that are not used: uid"


def test_objects_are_never_loaded(tmp_path):
    np.save(tmp_path / "particles.npy", np.array([{"a": 1}], object), allow_pickle=True)
    (tmp_path / "particles.npy").rename(tmp_path / "particles.cs")
    with pytest.raises(ValueError, match=r"cannot be read as a \.cs file: Object arrays"):
        read_particles(tmp_path / "particles.cs")


def test_groups_of_different_images_are_named_and_one_is_read(tmp_path):
    tables = starfile.read(written(tmp_path), always_dict=True)
    one = tables["optics"]
    other = one.assign(rlnOpticsGroup=2, rlnOpticsGroupName="late", rlnImageSize=10, rlnImagePixelSize=2.0)
    tables["optics"] = pd.concat([one, other])
    tables["particles"]["rlnOpticsGroup"] = [1, 1, 2, 1, 2, 1]
    tables["particles"].loc[[2, 4], "rlnImageName"] = ["1@late.mrcs", "2@late.mrcs"]
    starfile.write(tables, tmp_path / "two.star")
    late = np.ones((2, 10, 10), np.float32)
    particle_files.write_mrc(tmp_path / "late.mrcs", late, 2.0)
    message = "'late': 2 images of 10 pixels, 2 angstroms; 'opticsGroup1': 4 images of 8 pixels, 2.5 angstroms"
    with pytest.raises(ValueError, match=message):
        read_particles(tmp_path / "two.star")
    found = read_particles(tmp_path / "two.star", optics_group="late")
    assert (found.size, found.pixel, len(found.place)) == (10, 2.0, 2)
    np.testing.assert_array_equal(read_images(found, np.arange(2)), late)
    np.testing.assert_allclose(found.rotation, np.asarray(POSE.rotation)[[2, 4]], atol=1e-6)
    with pytest.raises(ValueError, match="optics_group is 'early'; wanted one of"):
        read_particles(tmp_path / "two.star", optics_group="early")


def test_names_are_relative_to_the_project_around_the_table(tmp_path):
    star = written(tmp_path)
    job = tmp_path / "Refine3D" / "job012"
    job.mkdir(parents=True)
    star.rename(job / "run_data.star")
    assert read_particles(job / "run_data.star").files == (tmp_path / "particles.mrcs",)


BROKEN = [
    ({"rlnImageName": "1@gone.mrcs"}, {}, FileNotFoundError, "names the stack gone.mrcs, which is neither at"),
    ({"rlnImageName": "1@../particles.mrcs"}, {}, ValueError, "which is outside of its project"),
    ({"rlnImageName": "1@/etc/particles.mrcs"}, {}, ValueError, "which is outside of its project"),
    ({"rlnImageName": "7@particles.mrcs"}, {}, ValueError, "names image 7 of .*, which has 6"),
    ({"rlnImageName": "0@particles.mrcs"}, {}, ValueError, "which has 6; wanted one of them"),
    ({"rlnImageName": None}, {}, ValueError, "wanted one with the column rlnImageName"),
    ({}, {"rlnImageSize": 10}, ValueError, "particles.mrcs 8 x 8 where changed.star says 10"),
    ({}, {"rlnImagePixelSize": 0.0}, ValueError, "has pixels of 0 angstroms"),
    ({}, {"rlnImagePixelSize": None}, ValueError, "does not say how large pixels are; wanted pixel_size_in_angstroms"),
    ({}, {"rlnImageDimensionality": 3}, ValueError, "images of three dimensions"),
    ({}, {"rlnCtfDataAreCtfPremultiplied": 1}, ValueError, "rlnCtfDataAreCtfPremultiplied 1"),
    ({"rlnAngleTilt": None}, {}, ValueError, "has rlnAngleRot and rlnAnglePsi alone"),
    ({"rlnAngleTilt": "north"}, {}, ValueError, "rlnAngleTilt of .* is no number"),
    ({"rlnOriginXAngst": np.nan}, {}, ValueError, "rlnOriginXAngst of .* is nan; wanted finite numbers"),
    ({}, {"rlnVoltage": None}, ValueError, "has no rlnVoltage"),
    ({"rlnOpticsGroup": 3}, {}, ValueError, "images of optics group 3"),
    ({"rlnOpticsGroup": None}, {}, ValueError, "table of optics without rlnOpticsGroup"),
]  # fmt: skip


@pytest.mark.parametrize(("particles", "optics", "error", "message"), BROKEN)
def test_what_is_broken_is_named(tmp_path, particles, optics, error, message):
    with pytest.raises(error, match=message):
        read_particles(changed(tmp_path, particles, optics))


def test_files_that_are_broken_are_named(tmp_path):
    star, stack = written(tmp_path), tmp_path / "particles.mrcs"
    whole = stack.read_bytes()
    stack.write_bytes(whole[:-100])
    with pytest.raises(ValueError, match=r"particles\.mrcs (cannot be read as a stack|is truncated)"):
        read_particles(star)
    stack.write_bytes(b"no stack")
    with pytest.raises(ValueError, match=r"particles\.mrcs (cannot be read as a stack|is truncated)"):
        read_particles(star)
    with mrcfile.new(stack, np.where(np.arange(N)[:, None, None] == 3, np.nan, IMAGES), overwrite=True):
        pass
    found = read_particles(star)
    read_images(found, np.arange(3))
    with pytest.raises(ValueError, match=r"image 4 of .*particles\.mrcs holds NaN"):
        read_images(found, np.arange(N))
    with pytest.raises(FileNotFoundError, match=r"nothing\.star is not there"):
        read_particles(tmp_path / "nothing.star")
    (tmp_path / "text.star").write_text("no table at all")
    with pytest.raises(ValueError, match=r"text\.star"):
        read_particles(tmp_path / "text.star")


# what each of the examples is, or why it is refused
READ = {
    "empiar_10076_7.star": (7, 320, 1.31),
    "relion31.star": (5, 256, 2.806),
    "test_starfile.star": (3, 16, 12.0),
    "relion31.6opticsgroups.star": "'opticsGroup3': 29 images of 196 pixels, 1.24 angstroms",
    "relion5.star": "toy_images_a.mrcs",
    "toy_projections.star": "wanted pixel_size_in_angstroms",
}


@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="no folder relion in CRYOSIP_STRUCTURES")
@pytest.mark.parametrize("name", READ)
def test_examples_are_read_or_refused_by_name(name):
    if isinstance(READ[name], str):
        with pytest.raises((ValueError, FileNotFoundError), match=READ[name]):
            read_particles(EXAMPLES / name)
        return
    n, size, pixel = READ[name]
    found = read_particles(EXAMPLES / name)
    assert (len(found.place), found.size) == (n, size)
    assert found.pixel == pytest.approx(pixel, abs=1e-3)
    assert np.isfinite(read_images(found, np.arange(n))).all()
