"""`python -m labkit.textures [DIR]` writes the pictures of the folder `data` again."""

import sys
from pathlib import Path

from labkit.textures import write

target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent.parent / "data"
print(f"wrote {len(write(target))} pictures below {target}")
