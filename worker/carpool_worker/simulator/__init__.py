"""A Message Batches API on this machine, for tests, demos and benchmarks; every answer is marked as simulated."""

from carpool_worker.simulator.background import running
from carpool_worker.simulator.errors import SPEND_LIMIT_REACHED
from carpool_worker.simulator.faults import Fault
from carpool_worker.simulator.options import SimulatorOptions
from carpool_worker.simulator.remote import RemoteSimulator
from carpool_worker.simulator.scripts import Script
from carpool_worker.simulator.server import create_app, serve
from carpool_worker.simulator.workspaces import ApiKey

__all__ = [
    "SPEND_LIMIT_REACHED",
    "ApiKey",
    "Fault",
    "RemoteSimulator",
    "Script",
    "SimulatorOptions",
    "create_app",
    "running",
    "serve",
]
