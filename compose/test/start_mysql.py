"""The unpacked MySQL or MariaDB, with the settings of the official image's environment, open to the other containers."""

import os
from pathlib import Path

from tests.servers.engines import Engine

name, user = os.environ["MYSQL_DATABASE"], os.environ["MYSQL_USER"]
password = Path(os.environ["MYSQL_PASSWORD_FILE"]).read_text()
init = Path("/run/init.sql")  # run before the first connection is accepted
init.write_text(f"""\
CREATE DATABASE IF NOT EXISTS {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;
CREATE USER IF NOT EXISTS {user}@'%' IDENTIFIED BY '{password}';
GRANT ALL ON {name}.* TO {user}@'%';
""")
tree = Path("/opt/engine")
server = Engine(tree).command(Path("/var/lib/mysql"))
server += ["--port=3306", "--bind-address=0.0.0.0", "--socket=/run/mysql.sock", "--pid-file=/run/mysql.pid"]
server += ["--skip-name-resolve", f"--init-file={init}", "--innodb-buffer-pool-size=32M"]
if (tree / "usr/sbin/mariadbd").exists():
    server += ["--innodb-log-file-size=8M"]
else:
    server += ["--mysqlx=OFF", "--secure-file-priv=NULL", "--innodb-redo-log-capacity=8M"]
os.execv(server[0], server)
