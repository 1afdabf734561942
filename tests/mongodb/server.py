"""SecantusDB, which ends with the process that started it and takes its folder along.

Usage: server.py FOLDER [OPTION OF secantusd-py]...
"""

import os
import shutil
import sys
import threading

from secantus.cli import main

folder, options = sys.argv[1], sys.argv[2:]


def end_with_the_input() -> None:
    sys.stdin.buffer.read()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


threading.Thread(target=end_with_the_input, daemon=True).start()
sys.exit(main(["--storage-path", os.path.join(folder, "data"), *options]))
