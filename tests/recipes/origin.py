"""The upstream's server, which tells where each connection came from."""

import web


class Origin(web.Nginx):
    """Answers "served" on port 8001, closes the connection, and keeps the list."""

    def __init__(self, host, directory, address):
        super().__init__(host, directory, f"listen {address}:8001 backlog=4096; return 200 served;")
        self.told = 0

    def visitors(self, count):
        """The addresses that the connections since the last call came from, of which there are so many."""
        self.told += count
        seen = self.requests_when(self.told)
        assert len(seen) == self.told
        return {request.laddr for request in seen[-count:]}
