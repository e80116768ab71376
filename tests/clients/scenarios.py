"""What the scripts share: scenarios, which say by their names what holds, and the S3 they are about.

The endpoint and the keys come from the environment, by the names that all SDKs know.
"""

import os
import random
import sys
import time
import traceback

ENDPOINT = os.environ["AWS_ENDPOINT_URL"]
# anybody may do anything: the master has no credentials file
OPEN = os.environ.get("S3_OPEN") == "1"

_scenarios = []


def holds(scenario):
    """Marks a function whose name says what holds."""
    _scenarios.append(scenario)
    return scenario


def only(condition):
    """As `holds`, where the condition is true."""
    return holds if condition else lambda scenario: scenario


def noise(size, seed=0):
    """Bytes that don't compress, the same for the same seed."""
    return random.Random(seed).randbytes(size)


def run(*arguments):
    """Runs all scenarios, or those named on the command line, and ends the program."""
    chosen = [s for s in _scenarios if s.__name__ in sys.argv[1:] or not sys.argv[1:]]
    failed = []
    for scenario in chosen:
        start = time.monotonic()
        try:
            scenario(*(argument(scenario.__name__) for argument in arguments))
            outcome = "ok"
        except Exception as error:
            # the script's own lines say enough of where it was
            for frame in traceback.extract_tb(error.__traceback__):
                if os.path.dirname(frame.filename) == os.path.dirname(__file__) and frame.name != "run":
                    print(f"line {frame.lineno}, in {frame.name}: {frame.line}")
            print("".join(traceback.format_exception_only(error)), end="")
            failed.append(scenario.__name__)
            outcome = "FAILED"
        print(f"{outcome:6} {time.monotonic() - start:6.2f} s  {scenario.__name__}", flush=True)
    assert chosen, "no such scenario"
    if failed:
        sys.exit("failed: " + ", ".join(failed))
