"""What a worker of Dask has of ours while a command has it make runs."""

from distributed import Worker, WorkerPlugin

from cryosip.bench import checkpoint


class Leaving(WorkerPlugin):
    """A worker that closes writes a checkpoint of its run first."""

    name = "cryosip-checkpoints"

    def teardown(self, worker: Worker) -> None:
        """Before the worker closes."""
        checkpoint.flush()
