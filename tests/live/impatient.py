"""gunicorn's worker as it is, except that it does not wait a minute for readers that have stopped."""

from opencode.server.worker import Worker

STALL_S = 4.0


class Impatient(Worker):
    stall_s = STALL_S
