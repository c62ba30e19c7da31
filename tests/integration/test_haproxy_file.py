import os
import shutil
import subprocess
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "deploy/haproxy/haproxy.cfg"


@pytest.mark.parametrize("domain", ["", ".predecir.svc.cluster.local"], ids=["compose", "kubernetes"])
def test_the_balancers_file_is_valid_and_names_the_replicas(domain: str, tmp_path: Path) -> None:
    binary = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    assert binary is not None, "install Debian's package `haproxy`"
    said = subprocess.run(
        [binary, "-c", "-f", str(FILE)],
        env={**os.environ, "PREDECIR_DOMAIN": domain},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    text = FILE.read_text().replace('"${PREDECIR_DOMAIN}"', domain)
    for name, port in (("gateway", 8000), ("inference", 8001), ("recorder", 8002)):
        assert f"{name}{domain}:{port}\n" in text
