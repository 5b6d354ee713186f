"""What a record says of its machine: the host, a short name for it, all devices, and the driver of a GPU."""

import socket
from types import SimpleNamespace

import jax
import pytest

from cryosip.bench import environment
from cryosip.records.machines import short_name

VERSION = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.15  Release Build  (a@b-1.2)\nGCC 11.4.0\n"


@pytest.fixture
def fresh():
    environment.environment.cache_clear()
    yield environment.environment
    environment.environment.cache_clear()


def test_the_machine_is_named_and_a_processor_has_no_driver(fresh, monkeypatch, tmp_path):
    monkeypatch.setattr(socket, "gethostname", lambda: "lab-7.example.org")
    monkeypatch.setattr(environment, "MACHINE_IDS", (tmp_path / "missing", tmp_path / "id"))
    (tmp_path / "id").write_text("c0ffee\n")
    found = fresh()
    assert {"host", "machine", "device", "driver", "cpu", "threads", "jobs"} <= set(found)
    assert (found["host"], found["driver"]) == ("lab-7.example.org", None)
    assert found["machine"] == short_name("lab-7.example.org", "c0ffee") != short_name("lab-7.example.org")


def test_without_an_id_of_the_machine_its_network_address_counts_unless_it_is_made_up(monkeypatch):
    monkeypatch.setattr(environment, "MACHINE_IDS", ())
    for address, known in ((0x02AB, "2ab"), (0x01 << 40, "")):
        monkeypatch.setattr(environment.uuid, "getnode", lambda address=address: address)
        assert environment._machine_id() == known


def test_all_devices_are_told_and_the_driver_of_a_gpu(fresh, monkeypatch, tmp_path):
    client = SimpleNamespace(platform_version="PJRT C API\ncuda 12090")
    gpu = SimpleNamespace(platform="cuda", device_kind="NVIDIA A100", client=client)
    monkeypatch.setattr(jax, "devices", lambda: [gpu, gpu])
    monkeypatch.setattr(environment, "NVIDIA", tmp_path / "version")
    assert fresh()["driver"] == "PJRT C API cuda 12090"
    (tmp_path / "version").write_text(VERSION)
    environment.environment.cache_clear()
    assert (fresh()["device"], fresh()["driver"]) == ("cuda NVIDIA A100 × 2", "NVIDIA 550.54.15, PJRT C API cuda 12090")
