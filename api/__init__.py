"""The aiohttp api: it appends commands, reads the read models and tails topics. No user code runs here."""
