"""Where a worker process begins: `python bootstrap.py OPTIONS`, OPTIONS being one JSON object.

Layer: worker. The interpreter may be any from 3.9 on and need not know this package, so the modules beside
this file are put under a private package name, and this folder is taken off `sys.path`: a user's module
called `values` must stay reachable.
"""

import os
import sys
import types


def main() -> None:
    if sys.version_info < (3, 9):
        sys.stderr.write(
            "a worker needs Python 3.9 or later; %s is %d.%d\n" % (sys.executable, *sys.version_info[:2])
        )
        raise SystemExit(3)
    folder = os.path.dirname(os.path.abspath(__file__))
    if sys.path and os.path.abspath(sys.path[0]) == folder:
        del sys.path[0]
    package = types.ModuleType("codomyrmex_worker")
    package.__path__ = [folder]
    sys.modules["codomyrmex_worker"] = package
    supervisor = __import__("codomyrmex_worker.supervisor", fromlist=["main"])
    supervisor.main(sys.argv[1])


if __name__ == "__main__":
    main()
