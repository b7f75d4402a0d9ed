"""When disk and backups need attention; the overview and the doctor agree on it."""

from typing import Final

LITTLE_ROOM: Final = 0.10
"""Share of the disk. If less is free, somebody should make room."""
BACKUP_MAX_AGE_MS: Final = 2 * 86_400_000
"""The latest backup should not be older."""
