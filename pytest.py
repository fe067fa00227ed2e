"""`python3 -m pytest` in this folder, for a python3 that has no pytest (pyenv's, a venv's): Debian's runs the tests then.

Both `python3 -m` and `import` look into this folder first. A python3 that has pytest goes on with its own, as if this
file were not there.
"""

import importlib.machinery
import importlib.util
import os
import runpy
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
DEBIAN = "/usr/bin/python3"

elsewhere = [folder for folder in sys.path if os.path.abspath(folder) != HERE]
real = importlib.machinery.PathFinder.find_spec("pytest", elsewhere)
if real and not real.origin:  # a folder of that name, empty
    real = None

if __name__ == "__main__":
    if real:
        sys.path[:] = elsewhere
        runpy.run_module("pytest", run_name="__main__", alter_sys=True)
    elif sys.executable != DEBIAN and os.access(DEBIAN, os.X_OK):
        os.execv(DEBIAN, [DEBIAN, "-m", "pytest", *sys.argv[1:]])
    else:
        sys.exit(f"{sys.executable}: there is no pytest; as root: apt-get install python3-pytest. "
                 "(scripts/test installs all that the tests want, and builds first.)")
elif real:
    sys.modules[__name__] = importlib.util.module_from_spec(real)
    real.loader.exec_module(sys.modules[__name__])
else:
    raise ModuleNotFoundError("No module named 'pytest'", name="pytest")
