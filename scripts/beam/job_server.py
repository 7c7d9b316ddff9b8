"""Write `job-server.jar` beside Beam's jars: a manifest that starts Beam's Flink job server with them."""

import sys
import zipfile
from pathlib import Path

MAIN_CLASS = "org.apache.beam.runners.flink.FlinkJobServerDriver"
# What Flink reaches into, which Java 17 closes.
OPENED = [
    "java.lang", "java.lang.reflect", "java.io", "java.math", "java.net", "java.nio", "java.text",
    "java.time", "java.util", "java.util.concurrent", "java.util.concurrent.atomic",
    "java.util.concurrent.locks", "sun.net.util", "sun.nio.ch",
]  # fmt: skip
LINE_BYTES = 72


def folded(line: str) -> bytes:
    """Return a manifest line; what exceeds 72 bytes goes on in the next lines, after a blank."""
    rest = line.encode()
    parts = [rest[:LINE_BYTES]]
    rest = rest[LINE_BYTES:]
    while rest:
        parts.append(b" " + rest[: LINE_BYTES - 1])
        rest = rest[LINE_BYTES - 1 :]
    return b"\r\n".join(parts) + b"\r\n"


def write_job_server(folder: Path) -> Path:
    """Write the jar; Beam ships the jars that its class path names to a cluster by itself."""
    target = folder / "job-server.jar"
    names = sorted(path.name for path in folder.glob("*.jar") if path != target)
    lines = [
        "Manifest-Version: 1.0",
        f"Main-Class: {MAIN_CLASS}",
        "Add-Opens: " + " ".join(f"java.base/{name}" for name in OPENED),
        "Class-Path: " + " ".join(names),
    ]
    with zipfile.ZipFile(target, "w") as jar:
        jar.writestr("META-INF/MANIFEST.MF", b"".join(map(folded, lines)) + b"\r\n")
    return target


if __name__ == "__main__":
    write_job_server(Path(sys.argv[1]))
