"""An event to 500 followers: what its delivery costs the server's core."""

import statistics
import tempfile
from pathlib import Path

from bench.measured import cpu_s
from bench.stream_load import Streams, compiled
from bench.streams import OURS, RAW, SERVERS, STARLETTE, Shape
from bench.table import Table, against, at_least

FOLLOWERS = 500


def measure(name, folder, shape, rounds, load):
    """Microseconds of processor for each delivered event, and events delivered in a second; medians of the rounds."""
    costs, rates = [], []
    folder.mkdir()
    with SERVERS[name](folder, shape) as server, Streams(load, server.port, server.path, FOLLOWERS) as streams:
        streams.opened()
        for number in range(rounds + 1):
            before = cpu_s(server.pid)
            streams.expect(shape.events)
            server.publish()
            total, seconds = streams.marks()
            used = cpu_s(server.pid) - before
            assert total == FOLLOWERS * shape.events, f"{name}: {total} came"
            server.wait()
            if number:  # the first one warms up
                costs.append(used / total * 1e6)
                rates.append(total / seconds)
    return statistics.median(costs), statistics.median(rates)


def compare(title, shape, rounds, folder, load):
    """A table of all servers, and what was measured of each."""
    found = {
        name: measure(name, folder / f"{shape.burst}-{number}", shape, rounds, load)
        for number, name in enumerate(SERVERS)
    }
    ours = found[OURS][0]
    table = Table(title, ("server", "CPU µs a delivery", "this server's share", "delivered/s", "delivered/s of CPU"))
    for name, (cost, rate) in found.items():
        table.add(name, f"{cost:.2f}", f"{ours / cost:.2f}", f"{rate:,.0f}", f"{1e6 / cost:,.0f}")
    return table, {name: cost for name, (cost, _) in found.items()}


def run(*, quick):
    rounds = 1 if quick else 3
    singles, bursts = (Shape(20, 1, 40), Shape(5, 10, 40)) if quick else (Shape(100, 1, 40), Shape(50, 10, 40))
    with tempfile.TemporaryDirectory() as name:
        load, language = compiled(name)
        one, costs = compare(f"Fan-out to {FOLLOWERS}, one write an event", singles, rounds, Path(name), load)
        many, burst_costs = compare(f"Fan-out to {FOLLOWERS}, bursts of 10", bursts, rounds, Path(name), load)
    share, times = costs[OURS] / costs[STARLETTE], costs[OURS] / costs[RAW]
    one.note = (
        f"Client in {language}. Of sse-starlette's CPU {against(share, 0.25)}. Of raw gevent's {against(times, 1.5)}."
    )
    many.note = (
        f"Deliveries in a second of CPU: {1e6 / burst_costs[OURS]:,.0f}, {at_least(1e6 / burst_costs[OURS], 4e5)}."
    )
    return [one, many]
