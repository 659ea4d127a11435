"""Proof that `PipelinedRedis` is a drop-in: redis-py's own asyncio test-suite, with the stock client and with ours.

    git clone --branch v8.1.0 https://github.com/redis/redis-py
    python tests/compat/run.py path/to/redis-py --url redis://localhost:6379/0
    python tests/compat/run.py path/to/redis-py --url redis://localhost:7000/0 --cluster

Needs a server that may be flushed, and what redis-py's suite needs (its dev_requirements.txt). What passes with stock must
pass with ours, or be listed in deviations.toml; a test that differs is tried once more on both sides first. Tests of server
modules, TLS, Docker scenarios and several databases are left out: they never reach the client class.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import xml.etree.ElementTree as xml
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
LEFT_OUT = ("test_scenario", "test_multidb", "test_ssl.py", "test_search.py")
CLUSTER_ONLY = ("test_cluster.py", "test_cluster_transaction.py")
Outcomes = dict[str, str]


def run_suite(checkout: Path, url: str, *, ours: bool, cluster: bool, only: list[str] | None = None) -> Outcomes:
    """One run of the suite; the outcome of every test by its id."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        marks = "not redismod and not ssl and not " + ("onlynoncluster" if cluster else "onlycluster")
        left_out = LEFT_OUT if cluster else LEFT_OUT + CLUSTER_ONLY
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout", "30"]
        command += ["-m", marks, f"--redis-url={url}", f"--junitxml={report}", "-o", "junit_family=xunit1"]
        command += [f"--ignore=tests/test_asyncio/{name}" for name in left_out]
        command += ["-p", "replace_client"] if ours else []
        command += only or (["tests/test_asyncio/test_cluster.py"] if cluster else ["tests/test_asyncio"])
        path = os.pathsep.join([str(HERE), str(HERE.parent.parent)])
        subprocess.run(
            command, cwd=checkout, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.DEVNULL, check=False
        )
        return read(report)


def read(report: Path) -> Outcomes:
    outcomes: Outcomes = {}
    for case in xml.parse(report).getroot().iter("testcase"):
        file = (case.get("file") or case.get("classname", "").replace(".", "/") + ".py").replace("\\", "/")
        owner = case.get("classname", "").rpartition(".")[2]
        inside = f"{owner}::" if owner[:4] == "Test" else ""
        bad = case.find("failure") is not None or case.find("error") is not None
        kind = "failed" if bad else "skipped" if case.find("skipped") is not None else "passed"
        outcomes[f"{file}::{inside}{case.get('name')}"] = kind
    return outcomes


def differences(stock: Outcomes, ours: Outcomes) -> list[str]:
    """Tests that pass with stock and do not with ours."""
    return sorted(test for test, outcome in stock.items() if outcome == "passed" and ours.get(test) != "passed")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, help="a checkout of redis-py at the installed version")
    parser.add_argument("--url", default="redis://localhost:6379/0")
    parser.add_argument("--cluster", action="store_true", help="the server is a node of a Cluster")
    options = parser.parse_args()
    where = (options.checkout.resolve(), options.url)
    stock = run_suite(*where, ours=False, cluster=options.cluster)
    ours = run_suite(*where, ours=True, cluster=options.cluster)
    for name, outcomes in (("stock", stock), ("ours", ours)):
        print(f"{name:6}", *(f"{count} {kind}" for kind, count in sorted(Counter(outcomes.values()).items())))
    suspects = differences(stock, ours)
    if suspects:
        again = {"cluster": options.cluster, "only": suspects}
        stock_again = run_suite(*where, ours=False, **again)
        if missing := sorted(set(suspects) - stock_again.keys()):
            # A re-run that finds no test proves nothing; it must not clear the difference.
            sys.exit(f"the re-run did not find {missing}")
        suspects = differences(stock_again, run_suite(*where, ours=True, **again))
    known = tomllib.loads((HERE / "deviations.toml").read_text()).get("deviation", [])
    unknown = [test for test in suspects if not any(re.search(entry["test"], test) for entry in known)]
    for test in suspects:
        print("differs" if test in unknown else "known  ", test)
    print(f"{len(unknown)} unexplained differences")
    return 1 if unknown or not stock else 0


if __name__ == "__main__":
    sys.exit(main())
