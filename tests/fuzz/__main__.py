"""`python -m tests.fuzz --minutes=30` tries new inputs of all areas; `make fuzz MINUTES=30` is the same.

Of each area a line says how many inputs were accepted and refused. The smallest input that fails is written
to a folder; moved to `tests/fuzz/cases/AREA/`, it is tried by `make test` from then on.
"""

import argparse
import importlib
import os
import sys
import time
import traceback

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from tests.fuzz.search import AREAS, keep, search  # noqa: E402

ROUND = 100  # inputs of an area before the next one's turn


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--area", choices=[*AREAS, "server"], help="default: all, in turn")
    parser.add_argument("--seed", type=int, default=None, help="of the first round (default: the time)")
    parser.add_argument("--out", default="build/fuzz", help="folder for inputs that fail")
    options = parser.parse_args()
    seed = int(time.time()) if options.seed is None else options.seed
    areas = [options.area] if options.area else [*AREAS, "server"]
    end, sums, app = time.monotonic() + 60 * options.minutes, {area: [0, 0, 0, 0.0] for area in areas}, None
    while time.monotonic() < end:
        for area in areas:
            if area == "server":
                from tests.fuzz import server_api

                app = app or server_api.stand_in()
                sums[area][0] += server_api.fuzz(app, ROUND, seed)
                continue
            found = search(importlib.import_module(f"tests.fuzz.{area}"), ROUND, seed)
            if found.error is not None:
                traceback.print_exception(found.error)
                print(
                    f"{area}: this input is in {keep(os.path.join(options.out, area), found.case)}",
                    flush=True,
                )
            sums[area] = [
                sums[area][0] + found.accepted,
                sums[area][1] + found.refused,
                sums[area][2] + (found.error is not None),
                max(sums[area][3], found.slowest),
            ]
        seed += 1
    for area, (accepted, refused, failures, slowest) in sums.items():
        print(
            f"{area}: {accepted + refused} inputs, {accepted} accepted, {refused} refused, "
            f"{failures} rounds with a failure, the slowest took {slowest:.1f} s"
        )
    sys.exit(any(failures for _, _, failures, _ in sums.values()))


if __name__ == "__main__":
    main()
