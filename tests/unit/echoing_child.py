"""A child process for tests: tells its process id."""

import os

from nbprovision.system.process import answer

if __name__ == "__main__":
    answer(lambda _message, _tell: os.getpid())
