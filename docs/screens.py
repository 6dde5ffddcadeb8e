"""The pictures of the dashboard: `python docs/screens.py DB`, best while workers train what is in it."""

import asyncio
import sys
from pathlib import Path

from cockpit.tui.app import Cockpit

SIZE = (150, 42)
KEYS = {  # what is pressed, one after the other, for each picture
    "dashboard": [],
    "compare": ["space", "down", "down", "down", "space", "3"],
    "layers": ["1", "up", "up", "up", "4"],
    "transfer": ["1", "n", *"digits-a", "tab", *"digits-b,digits"],
}


async def main(database: str) -> None:
    """Open the cockpit without a terminal, press the keys and save what is on screen."""
    app = Cockpit(Path(database))
    async with app.run_test(size=SIZE) as pilot:
        for name, keys in KEYS.items():
            await asyncio.sleep(3)
            for key in keys:
                await pilot.press("minus" if key == "-" else "comma" if key == "," else key)
                await asyncio.sleep(0.05)
            await asyncio.sleep(3)
            app.save_screenshot(f"{name}.svg", str(Path(__file__).parent))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
