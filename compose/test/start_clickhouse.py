"""The embedded ClickHouse, with the settings of the official image's environment, open to the other containers."""

import os
import signal
from pathlib import Path

from tests.servers.clickhouse import ClickHouseServer

password = Path(os.environ["CLICKHOUSE_PASSWORD_FILE"]).read_text()
server = ClickHouseServer(password=password, port=8123)
for name, opened in (("config.xml", "0.0.0.0"), ("users.xml", "::/0")):
    file = server.base / name
    file.write_text(file.read_text().replace("127.0.0.1", opened))
data = Path("/var/lib/clickhouse/data")
data.mkdir(parents=True, exist_ok=True)
(server.base / "data").symlink_to(data)
signal.signal(signal.SIGTERM, lambda *_: (server.stop(), os._exit(0)))
server.start()
signal.pause()
