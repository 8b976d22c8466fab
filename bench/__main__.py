"""All measurements, one after the other: `make bench`, or

    python -m bench [NAME …] [--quick]

Each name is a module with `run(*, quick: bool) -> list[Table]`. The tables are Markdown, as docs/performance.md keeps
them. `--quick` measures less, to see that everything works.
"""

import argparse
import importlib
import sys
import time

#: In this order; what a module needs besides the server's own packages is in requirements-bench.txt.
BENCHES: dict[str, str] = {
    "fan-out": "bench.fan_out",
    "turns": "bench.turns",
    "start": "bench.start",
    "requests": "bench.requests",
    "pages": "bench.pages",
    "idle": "bench.idle",
    "stops": "bench.stops",
    "servers": "bench.servers",
    "screens": "bench.screens",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(BENCHES)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="smaller amounts and fewer rounds")
    asked = parser.parse_args()
    unknown = [name for name in asked.names if name not in BENCHES]
    if unknown:
        parser.error(f"there is no bench {', '.join(unknown)}; there are {', '.join(BENCHES)}")
    for name in asked.names or BENCHES:
        began = time.monotonic()
        for table in importlib.import_module(BENCHES[name]).run(quick=asked.quick):
            print(table, flush=True)
        print(f"({name}: {time.monotonic() - began:.0f} s)\n", file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
