"""The file that settings are read from."""

from __future__ import annotations

import os
from pathlib import Path

from carpool_worker.exceptions import SettingsInvalid

DEFAULT_CONFIG = Path("config/carpool.toml")


def config_path() -> Path | None:
    """Return the TOML file to read: CARPOOL_CONFIG, else config/carpool.toml in the working directory, else None.

    Raises:
        SettingsInvalid: CARPOOL_CONFIG names something that is not a file.
    """
    if named := os.environ.get("CARPOOL_CONFIG"):
        if not Path(named).is_file():
            raise SettingsInvalid(f"CARPOOL_CONFIG names {named}, which is not a file")
        return Path(named)
    return DEFAULT_CONFIG if DEFAULT_CONFIG.is_file() else None
