"""A terminal to look at: tmux runs a program on a screen of a given size, types, and tells what stands there."""

import pathlib
import shlex
import subprocess
import tempfile

import harness


class Terminal:
    """A program of a Host on a screen of its own; what comes after it shows how it ended."""

    def __init__(self, host, *argv, width=80, height=24, environment=None):
        self.folder = tempfile.TemporaryDirectory()
        self.socket = str(pathlib.Path(self.folder.name) / "tmux")
        line, variables = host.command(argv, None, environment, {})
        settings = [f"{name}={value}" for name, value in (environment or {}).items()]
        # setpriv would end it with the thread of tmux that forked it.
        inside = shlex.join(["env", *settings, *line[line.index("nsenter"):]])
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", str(width), "-y", str(height),
                  f"{inside}; echo ended with $?; stty -a; exec cat", variables=variables)
        self.tmux("set-option", "-g", "status", "off")
        self.resize(width, height)

    def tmux(self, *words, variables=None):
        done = subprocess.run(["tmux", "-S", self.socket, *words], capture_output=True, timeout=harness.LIMIT,
                              env=variables, check=False)
        assert done.returncode == 0, (words, done)
        return done.stdout.decode()

    def keys(self, *keys):
        self.tmux("send-keys", *keys)

    def resize(self, width, height):
        self.tmux("resize-window", "-x", str(width), "-y", str(height))

    def screen(self):
        return self.tmux("capture-pane", "-p").split("\n")[:-1]

    def coloured(self):
        return self.tmux("capture-pane", "-pe")

    def shows(self, holds):
        """Waits until the screen is such that holds(its lines); the lines."""
        seen = []

        def look():
            seen[:] = self.screen()
            return holds(seen)

        try:
            harness.eventually(look)
        except TimeoutError:
            raise AssertionError("\n".join(["not on the screen:", *seen])) from None
        return seen

    def shows_text(self, text):
        return self.shows(lambda lines: any(text in line for line in lines))

    def pid(self, name):
        """The program's process, below the pane's shell."""
        shell = int(self.tmux("list-panes", "-F", "#{pane_pid}"))
        children = [shell]
        while children:
            pid = children.pop()
            comm = pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
            if comm == name:
                return pid
            children += map(int, pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        raise AssertionError(f"no {name} below {shell}")

    def close(self):
        subprocess.run(["tmux", "-S", self.socket, "kill-server"], capture_output=True,
                       timeout=harness.LIMIT, check=False)
        self.folder.cleanup()


